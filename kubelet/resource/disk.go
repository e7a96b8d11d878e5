package resource

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Disk is how full a file system is.
type Disk struct {
	// Total, what is free, and of that what is not kept for root, in bytes.
	Total, Free, Available int64
	Inodes, InodesFree     int64
}

// ReadDisk looks at the file system that a path lies on.
func ReadDisk(path string) (Disk, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Disk{}, fmt.Errorf("cannot look at the disk of %s: %w", path, err)
	}
	return Disk{
		Total: int64(st.Blocks) * st.Bsize, Free: int64(st.Bfree) * st.Bsize, Available: int64(st.Bavail) * st.Bsize,
		Inodes: int64(st.Files), InodesFree: int64(st.Ffree),
	}, nil
}
