package image

import (
	"path/filepath"
	"strings"
)

// blobPath is where the blob with this digest lies.
func (s *Store) blobPath(digest string) string {
	return filepath.Join(s.dir, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
}

// shortName is the name below l/ of the layer with this chain id.
func shortName(chain string) string { return chain[:12] }
