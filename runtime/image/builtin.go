package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Builtin is an image made on this node from files at hand, with one layer
// that is written when a container first needs it. No registry is asked for
// it, nor for any other name in its domain.
type Builtin struct {
	// Name is a normalised reference with a tag.
	Name string
	// Identity stands for the content of every file with a Source: it must
	// change whenever one of them does.
	Identity string
	// Created is the time the image says it was built.
	Created time.Time
	// Config says how to run it.
	Config Config
	// Files make up its layer, parents before children.
	Files []BuiltinFile
}

// BuiltinFile is one file of a built-in image.
type BuiltinFile struct {
	Path     string      // relative, slash-separated
	Mode     fs.FileMode // with type and special bits: fs.ModeDir|fs.ModeSticky|0o777
	UID, GID int
	Content  []byte // of a regular file without Source
	Source   string // file of this machine to copy
	Link     string // target of a symbolic link
	Size     int64  // of Source, for Image.Size
}

// builtinImage is a Builtin made ready to hand out.
type builtinImage struct {
	Builtin
	image *Image
	chain string
}

// addBuiltins makes the built-in images known. Their ids derive from their
// description, so that nothing large is read when the store is opened.
func (s *Store) addBuiltins() error {
	for _, b := range s.opt.Builtins {
		r, err := ParseReference(b.Name)
		if err != nil {
			return fmt.Errorf("cannot add built-in image: %w", err)
		}
		if r.Tag == "" {
			return fmt.Errorf("cannot add built-in image %q: %w: it needs a tag", b.Name, ErrInvalidName)
		}
		layer := derive("layer", b.Identity, b.Files)
		manifest := derive("manifest", layer, b.Config)
		i := &Image{
			ID: "sha256:" + derive("image", layer, b.Config), RepoTags: []string{r.String()},
			RepoDigests: []string{r.Repository() + "@sha256:" + manifest},
			Created:     b.Created, Architecture: s.opt.Architecture, OS: s.opt.OS,
			Config: b.Config, Builtin: true,
			lower: []string{shortName(layer)}, root: filepath.Join(s.dir, "l"),
		}
		for _, f := range b.Files {
			i.Size += f.Size + int64(len(f.Content))
		}
		id := strings.TrimPrefix(i.ID, "sha256:")
		s.builtin[id] = &builtinImage{Builtin: b, image: i, chain: layer}
		s.names[r.String()] = id
		s.names[i.RepoDigests[0]] = id
		s.reserve[r.Domain] = true
	}
	return nil
}

// derive hashes a description.
func derive(what, identity string, of any) string {
	data, err := json.Marshal(struct {
		What, Identity string
		Of             any
	}{what, identity, of})
	if err != nil {
		panic(err) // only plain data comes here
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// buildLayer writes the layer of a built-in image. It is not synced, which
// would cost more than all the rest: after a crash of the machine it is made
// again.
func (s *Store) buildLayer(ctx context.Context, b *builtinImage) error {
	if s.hasLayer(b.chain) {
		return nil
	}
	_, err := s.layers.do(ctx, b.chain, nil, func(context.Context, func(Progress)) (none, error) {
		if s.hasLayer(b.chain) {
			return none{}, nil
		}
		if err := s.writeBuiltin(b); err != nil {
			return none{}, fmt.Errorf("cannot make image %q: %w", b.Name, noSpace(err))
		}
		return none{}, nil
	})
	return err
}

// writeBuiltin writes the files of a built-in image.
func (s *Store) writeBuiltin(b *builtinImage) error {
	if err := s.room(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Join(s.dir, "layers"), "tmp-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root := filepath.Join(dir, "fs")
	for _, f := range append([]BuiltinFile{{Path: "", Mode: fs.ModeDir | 0o755}}, b.Files...) {
		if err := f.write(filepath.Join(root, f.Path)); err != nil {
			return err
		}
	}
	info := layerInfo{Boot: bootID()}
	if err := info.measure(root); err != nil {
		return err
	}
	if err := info.write(dir); err != nil {
		return err
	}
	return s.placeLayer(dir, b.chain)
}

// unixMode translates the permission and special bits of a mode.
func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for bit, u := range map[fs.FileMode]uint32{fs.ModeSetuid: unix.S_ISUID, fs.ModeSetgid: unix.S_ISGID, fs.ModeSticky: unix.S_ISVTX} {
		if m&bit != 0 {
			mode |= u
		}
	}
	return mode
}

// write makes one file on the disk.
func (f *BuiltinFile) write(p string) error {
	var err error
	switch {
	case f.Mode.IsDir():
		err = os.Mkdir(p, 0o755)
	case f.Mode&fs.ModeSymlink != 0:
		if err := os.Symlink(f.Link, p); err != nil {
			return err
		}
		return os.Lchown(p, f.UID, f.GID)
	case f.Source != "":
		err = copyFile(f.Source, p)
	default:
		err = os.WriteFile(p, f.Content, 0o600)
	}
	if err != nil {
		return err
	}
	if err := os.Lchown(p, f.UID, f.GID); err != nil {
		return err
	}
	return unix.Chmod(p, unixMode(f.Mode))
}

// copyFile copies a file the fastest way the filesystems know: sharing its
// blocks, or else inside the kernel.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) != nil {
		_, err = io.Copy(out, in) // copy_file_range
	}
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}
