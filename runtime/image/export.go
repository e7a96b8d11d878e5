package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

// Export writes images as a tar archive that is both an OCI layout and what
// `docker load` reads. A built-in image gets its real digests here, which
// differ from the ids it has on the node.
func (s *Store) Export(ctx context.Context, w io.Writer, refs ...string) error {
	if len(refs) == 0 {
		return fmt.Errorf("cannot export images: none is named")
	}
	e := &exporter{ctx: ctx, store: s, tar: tar.NewWriter(w), written: map[string]bool{}}
	err := e.begin()
	for _, ref := range refs {
		if err == nil {
			err = e.add(ref)
		}
	}
	if err == nil {
		err = e.end()
	}
	e.release()
	if err != nil {
		return fmt.Errorf("cannot export images: %w", err)
	}
	return nil
}

// exporter writes one archive.
type exporter struct {
	ctx     context.Context
	store   *Store
	tar     *tar.Writer
	written map[string]bool // members
	index   manifestFile
	saved   []savedImage
	held    []func()
}

func (e *exporter) release() {
	for _, f := range e.held {
		f()
	}
}

// member writes a small file.
func (e *exporter) member(name string, data []byte) error {
	return e.stream(name, int64(len(data)), strings.NewReader(string(data)))
}

// stream writes a file, once.
func (e *exporter) stream(name string, size int64, r io.Reader) error {
	if e.written[name] {
		return nil
	}
	e.written[name] = true
	if err := e.ctx.Err(); err != nil {
		return err
	}
	if err := e.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	_, err := io.CopyN(e.tar, r, size)
	return err
}

func (e *exporter) begin() error {
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := e.tar.WriteHeader(&tar.Header{Name: dir, Mode: 0o755, Typeflag: tar.TypeDir, ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
	}
	return e.member("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
}

func (e *exporter) end() error {
	e.index.SchemaVersion, e.index.MediaType = 2, typeOCIIndex
	for name, v := range map[string]any{"index.json": e.index, "manifest.json": e.saved} {
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := e.member(name, data); err != nil {
			return err
		}
	}
	return e.tar.Close()
}

// add writes one image.
func (e *exporter) add(ref string) error {
	s := e.store
	s.mu.Lock()
	id, err := s.find(ref)
	b := s.builtin[id]
	s.mu.Unlock()
	if err != nil {
		return err
	}
	i, err := s.load(id)
	if err != nil {
		return err
	}
	// By name, only that name goes along; by id, all.
	tags := i.RepoTags
	if r, err := ParseReference(ref); err == nil && slices.Contains(tags, r.String()) {
		tags = []string{r.String()}
	}
	if b != nil {
		return e.addBuiltin(b, tags)
	}
	r, err := s.readRecord(id)
	if err != nil {
		return err
	}
	hold := []string{r.ID, r.Manifest}
	for _, l := range r.Layers {
		hold = append(hold, l.Digest)
	}
	e.held = append(e.held, s.hold(hold...))
	layers := []string{}
	for _, l := range r.Layers {
		if err := e.blob(l.Digest); err != nil {
			return err
		}
		layers = append(layers, blobMember(l.Digest))
	}
	if err := e.blob(r.ID); err != nil {
		return err
	}
	manifest, err := os.ReadFile(s.blobPath(r.Manifest))
	if err != nil {
		return err
	}
	m, err := parseManifest(manifest, "")
	if err != nil {
		return err
	}
	if m.MediaType == "" {
		m.MediaType = typeOCIManifest
	}
	return e.list(manifest, m.MediaType, r.ID, i, layers, tags)
}

// list writes a manifest and its entries in both indexes.
func (e *exporter) list(manifest []byte, mediaType, config string, i *Image, layers, tags []string) error {
	sum := sha256.Sum256(manifest)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	if err := e.member(blobMember(digest), manifest); err != nil {
		return err
	}
	d := descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(manifest)), Platform: &platform{OS: i.OS, Architecture: i.Architecture}}
	if len(tags) == 0 {
		e.index.Manifests = append(e.index.Manifests, d)
	}
	for _, name := range tags {
		r, err := ParseReference(name)
		if err != nil {
			return err
		}
		d.Annotations = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": r.Tag}
		e.index.Manifests = append(e.index.Manifests, d)
	}
	e.saved = append(e.saved, savedImage{Config: blobMember(config), RepoTags: tags, Layers: layers})
	return nil
}

func blobMember(digest string) string { return "blobs/sha256/" + strings.TrimPrefix(digest, "sha256:") }

// blob writes a blob of the store.
func (e *exporter) blob(digest string) error {
	f, err := os.Open(e.store.blobPath(digest))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return e.stream(blobMember(digest), info.Size(), f)
}

// addBuiltin writes a built-in image. Its layer is compressed into a temporary
// file first, for its digest and size come before it in the archive.
func (e *exporter) addBuiltin(b *builtinImage, tags []string) error {
	f, err := os.CreateTemp(e.store.dir, "tmp-export-*")
	if err != nil {
		return noSpace(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	sum, diff := sha256.New(), sha256.New()
	packed := &counter{w: io.MultiWriter(f, sum)}
	z, err := gzip.NewWriterLevel(packed, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if err := b.archive(e.ctx, io.MultiWriter(z, diff)); err != nil {
		return noSpace(err)
	}
	if err := z.Close(); err != nil {
		return noSpace(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	layer := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	if err := e.stream(blobMember(layer), packed.n, f); err != nil {
		return err
	}
	config, err := json.Marshal(b.image.file([]string{"sha256:" + hex.EncodeToString(diff.Sum(nil))}))
	if err != nil {
		return err
	}
	configSum := sha256.Sum256(config)
	id := "sha256:" + hex.EncodeToString(configSum[:])
	if err := e.member(blobMember(id), config); err != nil {
		return err
	}
	manifest, err := json.Marshal(&manifestFile{SchemaVersion: 2, MediaType: typeOCIManifest,
		Config: &descriptor{MediaType: typeOCIConfig, Digest: id, Size: int64(len(config))},
		Layers: []descriptor{{MediaType: typeOCILayerGzip, Digest: layer, Size: packed.n}}})
	if err != nil {
		return err
	}
	return e.list(manifest, typeOCIManifest, id, b.image, []string{blobMember(layer)}, tags)
}

// counter counts what is written through it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// archive writes the layer of a built-in image as a tar archive, the same
// bytes each time.
func (b *builtinImage) archive(ctx context.Context, w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, f := range b.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		h := &tar.Header{Name: f.Path, Mode: int64(unixMode(f.Mode)), Uid: f.UID, Gid: f.GID, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if !b.Created.IsZero() {
			h.ModTime = b.Created.Truncate(time.Second)
		}
		body := io.Reader(strings.NewReader(string(f.Content)))
		switch {
		case f.Mode.IsDir():
			h.Typeflag, h.Name = tar.TypeDir, filepath.ToSlash(f.Path)+"/"
		case f.Mode&fs.ModeSymlink != 0:
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
		default:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(f.Content))
			if f.Source != "" {
				src, err := os.Open(f.Source)
				if err != nil {
					return err
				}
				defer src.Close()
				info, err := src.Stat()
				if err != nil {
					return err
				}
				h.Size, body = info.Size(), src
			}
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.CopyN(tw, body, h.Size); err != nil {
			return err
		}
	}
	return tw.Close()
}
