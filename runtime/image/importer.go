package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Import stores every image of an archive for this machine's platform: an OCI
// layout or what `docker save` writes, as a tar archive, plain or compressed.
func (s *Store) Import(ctx context.Context, r io.Reader, o ImportOptions) ([]*Image, error) {
	a, err := s.spooled(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("cannot import images: %w", err)
	}
	defer a.Close()
	return s.importFrom(ctx, a, o)
}

// ImportPath is Import of a file, or of a directory that is an OCI layout or an
// unpacked `docker save`.
func (s *Store) ImportPath(ctx context.Context, name string, o ImportOptions) ([]*Image, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("cannot import images: %w", err)
	}
	if !info.IsDir() {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("cannot import images: %w", err)
		}
		defer f.Close()
		return s.Import(ctx, f, o)
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("cannot import images: %w", err)
	}
	d := directory{root}
	defer d.Close()
	return s.importFrom(ctx, d, o)
}

// importFrom finds out what an archive is and stores its images.
func (s *Store) importFrom(ctx context.Context, a files, o ImportOptions) ([]*Image, error) {
	saved, err := readSaved(a, s.opt.MaxManifestBytes)
	if err != nil {
		return nil, fmt.Errorf("cannot import images: %w", err)
	}
	index, err := readMember(a, "index.json", s.opt.MaxManifestBytes)
	var images []*Image
	switch {
	case err == nil:
		images, err = s.importLayout(ctx, a, index, saved, o)
	case !errors.Is(err, fs.ErrNotExist):
	case saved == nil:
		err = fmt.Errorf("%w: neither index.json (OCI layout) nor manifest.json (docker save) is in it", ErrCorrupt)
	default:
		images, err = s.importSaved(ctx, a, saved, o)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot import images: %w", err)
	}
	return images, nil
}

// importLayout stores the images of an OCI layout. Those for other platforms
// are passed over as long as there is one for this.
func (s *Store) importLayout(ctx context.Context, a files, index []byte, saved []savedImage, o ImportOptions) ([]*Image, error) {
	top, err := parseManifest(index, typeOCIIndex)
	if err != nil {
		return nil, err
	}
	if !top.isIndex() {
		return nil, fmt.Errorf("%w: index.json is not an index", ErrCorrupt)
	}
	var images []*Image
	var passed error
	for _, d := range top.Manifests {
		if d.Platform != nil && (d.Platform.OS != s.opt.OS || d.Platform.Architecture != s.opt.Architecture) {
			passed = errors.Join(passed, fmt.Errorf("%w: it is for %s/%s", ErrNoPlatform, d.Platform.OS, d.Platform.Architecture))
			continue
		}
		names, err := layoutNames(d, o)
		if err != nil {
			return nil, err
		}
		i, err := s.importManifest(ctx, a, d, names, saved, o)
		if errors.Is(err, ErrNoPlatform) {
			passed = errors.Join(passed, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		images = include(images, i)
	}
	if len(images) == 0 {
		if passed != nil {
			return nil, passed
		}
		return nil, fmt.Errorf("%w: the archive holds no image", ErrCorrupt)
	}
	return images, nil
}

// include adds an image to a list, or replaces it by what is known of it now:
// an archive lists an image once for each of its names.
func include(list []*Image, i *Image) []*Image {
	for n := range list {
		if list[n].ID == i.ID {
			list[n] = i
			return list
		}
	}
	return append(list, i)
}

// layoutNames returns what an entry of index.json calls its image.
func layoutNames(d descriptor, o ImportOptions) ([]Reference, error) {
	name := d.Annotations["io.containerd.image.name"]
	if name == "" {
		// The OCI key may hold a whole name, or a tag only.
		ref := d.Annotations["org.opencontainers.image.ref.name"]
		if strings.ContainsAny(ref, "/:@") {
			name = ref
		} else if ref != "" && o.Name != "" && !strings.ContainsAny(path.Base(o.Name), ":@") {
			name = o.Name + ":" + ref
		}
	}
	if name == "" {
		name = o.Name
	}
	if name == "" {
		return nil, nil
	}
	r, err := ParseReference(name)
	if err != nil {
		return nil, err
	}
	return []Reference{r}, nil
}

// importManifest stores the image that a descriptor leads to.
func (s *Store) importManifest(ctx context.Context, a files, d descriptor, names []Reference, saved []savedImage, o ImportOptions) (*Image, error) {
	top := d.Digest
	var data []byte
	var m *manifestFile
	for depth := 0; ; depth++ {
		if depth == 4 {
			return nil, fmt.Errorf("%w: indexes within indexes", ErrCorrupt)
		}
		var err error
		data, err = readMember(a, "blobs/sha256/"+strings.TrimPrefix(d.Digest, "sha256:"), s.opt.MaxManifestBytes)
		if errors.Is(err, fs.ErrNotExist) {
			if depth > 0 {
				// docker save leaves out what it did not have.
				return nil, fmt.Errorf("%w: the archive lacks manifest %s", ErrNoPlatform, d.Digest)
			}
			return nil, fmt.Errorf("%w: the archive lacks manifest %s", ErrCorrupt, d.Digest)
		}
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		if got := "sha256:" + hex.EncodeToString(sum[:]); got != d.Digest {
			return nil, fmt.Errorf("%w: manifest %s has the digest %s", ErrCorrupt, d.Digest, got)
		}
		if m, err = parseManifest(data, d.MediaType); err != nil {
			return nil, err
		}
		if !m.isIndex() {
			break
		}
		if d, err = m.choose(s.opt.OS, s.opt.Architecture, s.opt.Variant); err != nil {
			return nil, err
		}
	}
	// Docker's newer archives name their images in manifest.json only.
	if len(names) == 0 {
		for _, i := range saved {
			if strings.TrimSuffix(path.Base(i.Config), ".json") == strings.TrimPrefix(m.Config.Digest, "sha256:") {
				more, err := i.names(o)
				if err != nil {
					return nil, err
				}
				names = append(names, more...)
			}
		}
	}
	title := d.Digest
	if len(names) > 0 {
		title = names[0].String()
	}
	return s.assemble(ctx, blobsIn{archive: a}, assembly{manifest: data, digest: d.Digest, parsed: m, index: top, names: names, title: title, tell: o.Progress})
}

// savedImage is one image of the manifest.json of `docker save`.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// readSaved reads manifest.json, nil if there is none.
func readSaved(a files, limit int64) ([]savedImage, error) {
	data, err := readMember(a, "manifest.json", limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []savedImage
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("%w: manifest.json: %w", ErrCorrupt, err)
	}
	return list, nil
}

// names returns the references of a saved image.
func (i savedImage) names(o ImportOptions) ([]Reference, error) {
	tags := i.RepoTags
	if len(tags) == 0 && o.Name != "" {
		tags = []string{o.Name}
	}
	var list []Reference
	for _, t := range tags {
		r, err := ParseReference(t)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

// importSaved stores the images of a `docker save`. It has no OCI manifest, so
// one is made, which refers to the layers as they are in the archive.
func (s *Store) importSaved(ctx context.Context, a files, list []savedImage, o ImportOptions) ([]*Image, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: the archive holds no image", ErrCorrupt)
	}
	var images []*Image
	for _, saved := range list {
		names, err := saved.names(o)
		if err != nil {
			return nil, err
		}
		from := blobsIn{archive: a, paths: map[string]string{}}
		member := func(name string) (descriptor, error) {
			name = path.Clean("/" + name)[1:]
			digest, size, err := digestOf(a, name)
			if err != nil {
				return descriptor{}, fmt.Errorf("%w: member %q: %w", ErrCorrupt, name, err)
			}
			from.paths[digest] = name
			return descriptor{Digest: digest, Size: size}, nil
		}
		config, err := member(saved.Config)
		if err != nil {
			return nil, err
		}
		config.MediaType = typeOCIConfig
		m := &manifestFile{SchemaVersion: 2, MediaType: typeOCIManifest, Config: &config}
		for _, l := range saved.Layers {
			d, err := member(l)
			if err != nil {
				return nil, err
			}
			if d.MediaType, err = layerType(a, from.paths[d.Digest]); err != nil {
				return nil, err
			}
			m.Layers = append(m.Layers, d)
		}
		data, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		digest := "sha256:" + hex.EncodeToString(sum[:])
		title := config.Digest
		if len(names) > 0 {
			title = names[0].String()
		}
		i, err := s.assemble(ctx, from, assembly{manifest: data, digest: digest, parsed: m, index: digest, names: names, title: title, tell: o.Progress})
		if err != nil {
			return nil, err
		}
		images = include(images, i)
	}
	return images, nil
}

// layerType looks at how a layer is compressed.
func layerType(a files, name string) (string, error) {
	f, err := a.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 4)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return "", err
	}
	switch head = head[:n]; {
	case n >= 2 && head[0] == 0x1f && head[1] == 0x8b:
		return typeOCILayerGzip, nil
	case n == 4 && string(head) == "\x28\xb5\x2f\xfd":
		return typeOCILayerZstd, nil
	}
	return typeOCILayer, nil
}
