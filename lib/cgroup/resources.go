package cgroup

// Resources are the limits of a cgroup, in the units of version 1, which
// Kubernetes uses; version 2 gets them translated. Zero values leave a setting
// as it is.
type Resources struct {
	// CPUShares is the relative weight, 2 to 262144; 1024 is one core's worth.
	CPUShares uint64
	// CPUQuota is the time in microseconds a CPUPeriod; negative is unlimited.
	CPUQuota int64
	// CPUPeriod in microseconds; 0 with a quota is 100000.
	CPUPeriod uint64
	// CPUSet and MemSet are lists of cores and memory nodes: "0-3,7".
	CPUSet, MemSet string
	// Memory limit in bytes; negative is unlimited.
	Memory int64
	// MemorySwap is memory and swap together in bytes; negative is unlimited.
	// Equal to Memory is no swap. Ignored where the kernel counts no swap.
	MemorySwap int64
	// Pids is the largest number of tasks; negative is unlimited.
	Pids int64
	// HugePages is the limit in bytes by page size: "2MB".
	HugePages map[string]uint64
	// Unified are files of version 2 to write as they are ("memory.high");
	// refused on version 1.
	Unified map[string]string
}
