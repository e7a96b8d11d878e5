package cgroup

// Stats is what the tasks of a cgroup use, children included.
type Stats struct {
	CPU    CPUStats
	Memory MemoryStats
	// Pids is the number of tasks; PidsLimit its limit or 0.
	Pids, PidsLimit uint64
	IO              IOStats
}

// CPUStats are counters since the cgroup was made.
type CPUStats struct {
	// UsageNanos is the time spent on all cores; UserNanos and SystemNanos its
	// parts.
	UsageNanos, UserNanos, SystemNanos uint64
	// Periods of the quota, those in which it ran out, and the time lost.
	Periods, ThrottledPeriods, ThrottledNanos uint64
}

// MemoryStats in bytes, and counters.
type MemoryStats struct {
	// Usage includes the page cache. WorkingSet is Usage less inactive file
	// pages, what eviction and kubectl top look at.
	Usage, WorkingSet uint64
	// RSS is anonymous memory, Cache file pages, Swap what is swapped out.
	RSS, Cache, Swap uint64
	// PageFaults and MajorPageFaults are counters.
	PageFaults, MajorPageFaults uint64
	// Limit, or 0 when there is none.
	Limit uint64
	// OOMKills is how many processes the kernel killed for want of memory.
	OOMKills uint64
}

// IOStats are counters of the block layer.
type IOStats struct {
	ReadBytes, WriteBytes, Reads, Writes uint64
}
