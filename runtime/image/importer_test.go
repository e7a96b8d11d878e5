package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// saved makes what `docker save` of old writes: plain layers in directories of
// their own, those that occur twice as links.
func saved(t testing.TB, name string, layers ...[]byte) []byte {
	t.Helper()
	var files []file
	entry := savedImage{RepoTags: []string{name}}
	c := configFile{OS: "linux", Architecture: runtime.GOARCH}
	c.RootFS.Type = "layers"
	seen := map[string]string{}
	for n, l := range layers {
		sum := sha256.Sum256(l)
		diff := "sha256:" + hex.EncodeToString(sum[:])
		path := fmt.Sprintf("%d/layer.tar", n)
		if old, ok := seen[diff]; ok {
			files = append(files, symlink(path, "../"+old))
		} else {
			files = append(files, reg(path, string(l)))
			seen[diff] = path
		}
		entry.Layers = append(entry.Layers, path)
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, diff)
	}
	config, _ := json.Marshal(c)
	entry.Config = "config.json"
	manifest, _ := json.Marshal([]savedImage{entry})
	files = append(files, reg("config.json", string(config)), reg("manifest.json", string(manifest)))
	return archive(t, files...)
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestImportDockerArchive(t *testing.T) {
	one, two := archive(t, reg("a", "1")), archive(t, reg("b", "2"))
	data := saved(t, "app:1", one, two, one)
	for name, in := range map[string][]byte{"plain": data, "gzip": gzipped(t, data)} {
		s := open(t, t.TempDir())
		list, err := s.Import(context.Background(), bytes.NewReader(in), ImportOptions{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(list) != 1 || !reflect.DeepEqual(list[0].RepoTags, []string{"docker.io/library/app:1"}) || len(list[0].LowerDirs()) != 3 {
			t.Errorf("%s: images are %+v", name, list)
		}
		if left, _ := filepath.Glob(filepath.Join(s.dir, "tmp-*")); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

func TestImportWhatOthersWrite(t *testing.T) {
	i := testImage(t, compression.GZip, archive(t, reg("a", "1")), archive(t, reg("b", "2")))
	dir := t.TempDir()
	path := filepath.Join(dir, "saved.tar")
	ref, _ := name.NewTag("example.com/app:1")
	if err := tarball.WriteToFile(path, ref, i); err != nil {
		t.Fatal(err)
	}
	oci := filepath.Join(dir, "oci")
	l, err := layout.Write(oci, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	foreign := configure(t, testImage(t, compression.GZip), "linux", "s390x")
	if err := l.AppendIndex(mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: foreign, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}}, mutate.IndexAddendum{Add: i}),
		layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "example.com/app:2"})); err != nil {
		t.Fatal(err)
	}
	if err := l.AppendImage(i, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "3"})); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		o    ImportOptions
		want []string
	}{
		{path, ImportOptions{}, []string{"example.com/app:1"}},
		{oci, ImportOptions{Name: "example.com/app"}, []string{"example.com/app:2", "example.com/app:3"}},
	} {
		s := open(t, t.TempDir())
		list, err := s.ImportPath(context.Background(), c.path, c.o)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		if len(list) != 1 || list[0].ID != imageID(t, i) || !slices.Equal(list[0].RepoTags, c.want) {
			t.Errorf("%s: images are %+v, %v", c.path, list[0], c.want)
		}
	}
}

func TestExportRoundTrip(t *testing.T) {
	r := registry(t, registryOptions{})
	r.push(t, "app:1", testImage(t, compression.GZip, archive(t, reg("a", "1")), archive(t, reg("b", "2"))))
	s := open(t, t.TempDir(), withHello(t), func(o *Options) {
		// Something smaller than this test's binary.
		small := filepath.Join(t.TempDir(), "program")
		write(t, small, []byte(noise(9, 500_000)))
		for n := range o.Builtins {
			for i := range o.Builtins[n].Files {
				if f := &o.Builtins[n].Files[i]; f.Source != "" {
					f.Source, f.Size = small, 500_000
				}
			}
		}
	})
	i := pull(t, s, r.host+"/app:1")
	if err := s.Tag(i.ID, "other:tag"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "out.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Export(context.Background(), f, i.ID, "sagong.local/hello:v1", "sagong.local/hello:v2"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	// The same image comes in again, and the built-in one as an ordinary one,
	// though not under a name that is taken.
	other := open(t, t.TempDir())
	list, err := other.ImportPath(context.Background(), path, ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 3 || list[0].ID != i.ID || !slices.Equal(list[0].RepoTags, []string{r.host + "/app:1", "docker.io/library/other:tag"}) {
		t.Errorf("imported %+v", list[0])
	}
	hello, err := other.Use(context.Background(), "sagong.local/hello:v2", "c")
	if err != nil {
		t.Fatal(err)
	}
	own, err := s.Use(context.Background(), "sagong.local/hello:v2", "c")
	if err != nil {
		t.Fatal(err)
	}
	if hello.Builtin || !reflect.DeepEqual(hello.Config, own.Config) {
		t.Errorf("configuration is %+v, want %+v", hello.Config, own.Config)
	}
	if a, b := digestLines(tree(t, hello.LowerDirs()[0])), digestLines(tree(t, own.LowerDirs()[0])); !slices.Equal(a, b) {
		t.Errorf("tree is\n%s\nwant\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
	if _, err := s.ImportPath(context.Background(), path, ImportOptions{}); !errors.Is(err, ErrBuiltin) {
		t.Errorf("import under a built-in name: %v", err)
	}
	// And others find it valid: as an OCI layout, as a docker archive.
	un := filepath.Join(t.TempDir(), "oci")
	untar(t, path, un)
	l, err := layout.ImageIndexFromPath(un)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(l); err != nil {
		t.Error(err)
	}
	tag, _ := name.NewTag("sagong.local/hello:v1")
	img, err := tarball.ImageFromPath(path, &tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
}

// digestLines shortens the lines of large files.
func digestLines(lines []string) []string {
	for n, l := range lines {
		if len(l) > 1000 {
			sum := sha256.Sum256([]byte(l))
			lines[n] = l[:30] + hex.EncodeToString(sum[:])
		}
	}
	return lines
}

func untar(t testing.TB, from, to string) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		p := filepath.Join(to, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(p, 0o755)
		} else {
			var data []byte
			if data, err = io.ReadAll(tr); err == nil {
				if err = os.MkdirAll(filepath.Dir(p), 0o755); err == nil {
					err = os.WriteFile(p, data, 0o600)
				}
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestImportRefusesWhatIsWrong(t *testing.T) {
	layer := archive(t, reg("a", "1"))
	good := saved(t, "app:1", layer)
	lie := bytes.Replace(good, []byte(`"diff_ids":["sha256:`), []byte(`"diff_ids":["sha256:0000`), 1)
	swapped := saved(t, "app:1", layer)
	swapped = bytes.Replace(swapped, []byte("1\x00"), []byte("2\x00"), 1)
	for _, c := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, ErrCorrupt},
		{"no archive", []byte("hello"), ErrCorrupt},
		{"cut short", good[:700], ErrCorrupt},
		{"another archive", archive(t, reg("x", "y")), ErrCorrupt},
		{"digest of odd length", lie, ErrCorrupt},
		{"layer changed", swapped, ErrCorrupt},
		{"member missing", archive(t, reg("manifest.json", `[{"Config":"c.json","Layers":["l.tar"]}]`)), ErrCorrupt},
		{"member climbs", archive(t, reg("manifest.json", `[{"Config":"../../../etc/passwd","Layers":[]}]`)), ErrCorrupt},
		{"link climbs", archive(t, symlink("c", "../../../../etc/passwd"), reg("manifest.json", `[{"Config":"c","Layers":[]}]`)), ErrCorrupt},
		{"links in a circle", archive(t, symlink("c", "d"), symlink("d", "c"), reg("manifest.json", `[{"Config":"c","Layers":[]}]`)), ErrCorrupt},
		{"invalid name", saved(t, "NOT A NAME", layer), ErrInvalidName},
		{"bad gzip", append(gzipped(t, good)[:200], 0, 0, 0), ErrCorrupt},
		{"layer of a bomb", saved(t, "bomb:1", gzipped(t, make([]byte, 30<<20))), ErrTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, t.TempDir(), func(o *Options) { o.MaxLayerBytes = 1 << 20 })
			_, err := s.Import(context.Background(), bytes.NewReader(c.in), ImportOptions{})
			if !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
			if err == nil {
				t.Error("it was taken")
			}
			for _, pattern := range []string{"tmp-*", "*/tmp-*", "layers/*", "images/*"} {
				if left, _ := filepath.Glob(filepath.Join(s.dir, pattern)); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			}
		})
	}
}
