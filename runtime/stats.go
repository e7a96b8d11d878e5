package runtime

import (
	"time"

	"sagong/lib/cgroup"
)

// Stats is what a container uses.
type Stats struct {
	ID, Name string
	// At is the time of reading.
	At time.Time
	cgroup.Stats
}

// PodStats is what a pod uses, its containers included.
type PodStats struct {
	UID        string
	At         time.Time
	Pod        cgroup.Stats
	Containers []Stats
}

// DiskUsage of a container's writable layer.
type DiskUsage struct {
	// Bytes allocated and Inodes used.
	Bytes, Inodes uint64
	At            time.Time
}
