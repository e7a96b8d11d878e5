package image

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
)

// Reference is a normalised image name: registry, repository, and a tag or a
// digest, as Kubernetes and containerd understand them.
type Reference struct {
	Domain string // registry host and port, e.g. "docker.io"
	Path   string // repository, e.g. "library/nginx"
	Tag    string // empty when Digest is set
	Digest string // e.g. "sha256:..."; a name with a tag and a digest is known by its digest
}

// ParseReference normalises a name as a user writes it: "nginx" becomes
// docker.io/library/nginx:latest. An error wraps ErrInvalidName.
func ParseReference(s string) (Reference, error) {
	named, err := reference.ParseDockerRef(s)
	if err != nil {
		return Reference{}, fmt.Errorf("cannot parse image name %q: %w: %w", s, ErrInvalidName, err)
	}
	r := Reference{Domain: reference.Domain(named), Path: reference.Path(named)}
	if d, ok := named.(reference.Digested); ok {
		r.Digest = d.Digest().String()
		if d.Digest().Algorithm() != "sha256" {
			return Reference{}, fmt.Errorf("cannot parse image name %q: %w: only sha256 digests are supported", s, ErrInvalidName)
		}
		return r, nil
	}
	if t, ok := named.(reference.Tagged); ok {
		r.Tag = t.Tag()
	}
	return r, nil
}

// Repository is the name without tag and digest.
func (r Reference) Repository() string { return r.Domain + "/" + r.Path }

// String is the normalised name.
func (r Reference) String() string {
	if r.Digest != "" {
		return r.Repository() + "@" + r.Digest
	}
	return r.Repository() + ":" + r.Tag
}

// identifier is what a registry is asked for: the digest, or else the tag.
func (r Reference) identifier() string {
	if r.Digest != "" {
		return r.Digest
	}
	return r.Tag
}

// asID recognises an image id: "sha256:" and 64 hexadecimal digits, or the
// digits alone. It returns the digits.
func asID(s string) (string, bool) {
	s = strings.TrimPrefix(s, "sha256:")
	return s, isHex(s) && len(s) == 64
}

// isHex says whether s consists of lower-case hexadecimal digits only.
func isHex(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}
