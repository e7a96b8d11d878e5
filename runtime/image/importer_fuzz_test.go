package image

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
)

// FuzzImport reads archives from anybody: an image that can be used comes of it, or
// nothing stays, and nothing lies outside the store.
func FuzzImport(f *testing.F) {
	f.Add(saved(f, "app:1", archive(f, reg("a", "1"))))
	f.Add(gzipped(f, saved(f, "app:1", archive(f, reg("a", "1")))))
	f.Add(archive(f, reg("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), reg("index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:../../x","size":1}]}`)))
	f.Add(archive(f, reg("manifest.json", `[{"Config":"../c.json","RepoTags":["a:b",""],"Layers":["l/../../x"]},null]`), symlink("l", "/")))
	f.Add(archive(f, hardlink("index.json", "manifest.json"), hardlink("manifest.json", "index.json")))
	f.Fuzz(func(t *testing.T, data []byte) { importAnything(t, data) })
}

// FuzzImportLayout has the parts of a layout as they are named in it.
func FuzzImportLayout(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}]}`), []byte(`[]`), []byte("x"))
	f.Add([]byte(`{"manifests":[{"digest":"sha256:x","annotations":{"org.opencontainers.image.ref.name":"a"}},null]}`), []byte(`[{"Config":"c","Layers":["c","c"]}]`), []byte(`{"rootfs":{"diff_ids":["sha256:0"]}}`))
	f.Fuzz(func(t *testing.T, index, manifest, other []byte) {
		importAnything(t, archive(t, reg("index.json", string(index)), reg("manifest.json", string(manifest)), reg("c", string(other)),
			reg("blobs/sha256/x", string(other))))
	})
}

func importAnything(t *testing.T, data []byte) {
	t.Helper()
	outer := t.TempDir()
	s := open(t, filepath.Join(outer, "store"))
	list, err := s.Import(context.Background(), bytes.NewReader(data), ImportOptions{})
	if err == nil && len(list) == 0 {
		t.Error("no image and no error")
	}
	if inside, _ := os.ReadDir(outer); len(inside) != 1 {
		t.Errorf("something was written outside: %v (%v)", inside, err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "tmp-*")); len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}
