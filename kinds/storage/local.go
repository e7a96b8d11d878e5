package storage

import "regexp"

// The built-in driver makes volumes on the disks of nodes. A volume lies on one
// node, which its node affinity and a label name; a finalizer holds the object
// until that node has removed the data.
const (
	LocalDriver    = "local.sagong.io"
	LocalNodeLabel = LocalDriver + "/node"
	LocalFinalizer = LocalDriver + "/volume"
	// LocalClass is the name of the class that a cluster starts with.
	LocalClass = "standard"
	// LocalMinimum is the size in bytes of the smallest volume, MiB the unit that
	// sizes are rounded up to.
	LocalMinimum = 16 << 20
	MiB          = 1 << 20
)

// LocalHandle says whether a volume handle can name a volume of the built-in
// driver: it becomes the name of a file.
var LocalHandle = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`).MatchString
