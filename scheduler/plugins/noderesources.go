package plugins

import (
	"sagong/scheduler/state"
)

// NodeResourcesFit keeps pods off nodes without room for their requests, and
// prefers the node with the larger part left free (LeastAllocated).
type NodeResourcesFit struct{}

// Name implements Plugin.
func (NodeResourcesFit) Name() string { return "NodeResourcesFit" }

// Helps implements Plugin.
func (NodeResourcesFit) Helps() Change { return NodeChanged | PodGone | PodChanged }

// Weight implements Dynamic.
func (NodeResourcesFit) Weight() int64 { return 1 }

// Filter implements Filter.
func (NodeResourcesFit) Filter(c *Class, n *state.Node) *No {
	want, have, used := &c.Requests, &n.Capacity, &n.Used
	var lacking []string
	if used.Pods+1 > have.Pods {
		lacking = append(lacking, "Too many pods")
	}
	if want.MilliCPU > 0 && want.MilliCPU > have.MilliCPU-used.MilliCPU {
		lacking = append(lacking, "Insufficient cpu")
	}
	if want.Memory > 0 && want.Memory > have.Memory-used.Memory {
		lacking = append(lacking, "Insufficient memory")
	}
	if want.Ephemeral > 0 && want.Ephemeral > have.Ephemeral-used.Ephemeral {
		lacking = append(lacking, "Insufficient ephemeral-storage")
	}
	for name, q := range want.Other {
		if q > 0 && q > have.Other[name]-used.Other[name] {
			lacking = append(lacking, "Insufficient "+string(name))
		}
	}
	if lacking == nil {
		return nil
	}
	return &No{Reasons: lacking}
}

// ScoreAfter implements Dynamic: the mean of the free parts of CPU and memory.
func (NodeResourcesFit) ScoreAfter(c *Class, n *state.Node) int64 {
	free := func(capacity, used int64) int64 {
		if capacity <= 0 || used > capacity {
			return 0
		}
		return (capacity - used) * MaxScore / capacity
	}
	return (free(n.Capacity.MilliCPU, n.Compared.MilliCPU+c.Compared.MilliCPU) +
		free(n.Capacity.Memory, n.Compared.Memory+c.Compared.Memory)) / 2
}

// BalancedAllocation prefers nodes where CPU and memory fill up alike.
type BalancedAllocation struct{}

// Name implements Plugin.
func (BalancedAllocation) Name() string { return "NodeResourcesBalancedAllocation" }

// Helps implements Plugin.
func (BalancedAllocation) Helps() Change { return 0 }

// Weight implements Dynamic.
func (BalancedAllocation) Weight() int64 { return 1 }

// ScoreAfter implements Dynamic: 1 minus the standard deviation of the two
// fractions, which for two is half their difference.
func (BalancedAllocation) ScoreAfter(c *Class, n *state.Node) int64 {
	if c.Requests.MilliCPU == 0 && c.Requests.Memory == 0 {
		return 0 // best effort pods tilt nothing
	}
	fraction := func(capacity, used int64) float64 {
		if capacity <= 0 {
			return 1
		}
		return min(float64(used)/float64(capacity), 1)
	}
	cpu := fraction(n.Capacity.MilliCPU, n.Used.MilliCPU+c.Requests.MilliCPU)
	memory := fraction(n.Capacity.Memory, n.Used.Memory+c.Requests.Memory)
	return int64((1 - max(cpu-memory, memory-cpu)/2) * MaxScore)
}
