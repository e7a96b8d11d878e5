package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"
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
