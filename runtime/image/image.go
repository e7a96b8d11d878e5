package image

import (
	"time"
)

// Image is what the store knows of one image. It is immutable and shared.
type Image struct {
	// ID is the digest of the image's configuration: "sha256:" and 64 digits.
	ID string
	// RepoTags are the normalised names with a tag, sorted.
	RepoTags []string
	// RepoDigests are the normalised names with the digest they were pulled
	// by or resolved to, sorted.
	RepoDigests []string
	// Size is the number of bytes of the image's content as a registry
	// transfers it (compressed layers, configuration, manifest).
	Size int64
	// Created is when the image was built, zero if it does not say.
	Created time.Time
	// Architecture and OS are those the image was built for.
	Architecture, OS string
	// Config says how to run it.
	Config Config
	// Builtin is true for images made of this binary; they cannot be removed.
	Builtin bool

	lower []string // names in Store.lowerRoot, topmost first
	root  string
}

// Config is the part of an image's configuration that says how to run it.
type Config struct {
	Entrypoint   []string
	Cmd          []string
	Env          []string // "NAME=value"
	WorkingDir   string
	User         string   // "", "uid", "name", "uid:gid", "name:group"
	Volumes      []string // absolute paths, sorted
	ExposedPorts []string // "8080/tcp", sorted
	StopSignal   string   // "", "SIGQUIT", "3"
	Labels       map[string]string
}

// LowerRoot is the directory in which the names of Lower lie. A runtime that
// mounts very many layers can make it the working directory and use the names.
func (i *Image) LowerRoot() string { return i.root }

// Lower is the image's layers as names in LowerRoot, topmost first, the order
// that overlayfs wants. Empty for an image without content.
func (i *Image) Lower() []string { return i.lower }

// LowerDirs is Lower as absolute paths.
func (i *Image) LowerDirs() []string {
	dirs := make([]string, len(i.lower))
	for n, l := range i.lower {
		dirs[n] = i.root + "/" + l
	}
	return dirs
}

// Credential is one way to log in to a registry. The zero value is anonymous.
type Credential struct {
	Username, Password string
	// IdentityToken is an OAuth2 refresh token, RegistryToken a bearer token.
	IdentityToken, RegistryToken string
}

// Progress tells how far a pull or an import is. Calls are made one at a time.
type Progress struct {
	Reference          string
	Layers, LayersDone int
	Bytes, BytesDone   int64 // compressed
	LayersPresent      int   // of LayersDone, those that were there before
}

// PullOptions are what one pull needs besides a name.
type PullOptions struct {
	// Credentials are tried in order; when none is given, anonymously.
	Credentials []Credential
	// Progress, if set, is called as bytes and layers arrive.
	Progress func(Progress)
}

// ImportOptions are what one import needs besides the archive.
type ImportOptions struct {
	// Name is given to an image whose archive does not name it; when empty
	// such an image is known by its id only.
	Name string
	// Progress, if set, is called as layers are unpacked.
	Progress func(Progress)
}

// Usage is what the store holds on its disk.
type Usage struct {
	Images        int
	Bytes         int64 // blobs and unpacked layers, as allocated on disk
	Inodes        int64
	DiskTotal     int64 // of the filesystem that holds the store
	DiskAvailable int64
}
