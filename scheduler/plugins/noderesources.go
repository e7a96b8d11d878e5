package plugins

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"sagong/scheduler/state"
)

// NodeResourcesFit keeps pods off nodes without room for their requests, and
// prefers nodes by how full they are.
type NodeResourcesFit struct {
	ignored   []string // extended resources that others look after
	groups    []string // prefixes of such
	strategy  func(requested, capacity int64) int64
	roundOff  bool // whether parts that score nothing do not count
	resources []configv1.ResourceSpec
	devices   *Devices // that stand for extended resources; may be nil
}

// NewNodeResourcesFit makes the rule from complete arguments.
func NewNodeResourcesFit(a *configv1.NodeResourcesFitArgs) *NodeResourcesFit {
	f := &NodeResourcesFit{ignored: a.IgnoredResources, groups: a.IgnoredResourceGroups, resources: a.ScoringStrategy.Resources}
	switch a.ScoringStrategy.Type {
	case configv1.MostAllocated:
		f.strategy = mostAllocated
	case configv1.RequestedToCapacityRatio:
		f.strategy, f.roundOff = ratioOf(a.ScoringStrategy.RequestedToCapacityRatio.Shape), true
	default:
		f.strategy = leastAllocated
	}
	return f
}

// Name implements Plugin.
func (*NodeResourcesFit) Name() string { return "NodeResourcesFit" }

// Helps implements Plugin.
func (*NodeResourcesFit) Helps() Change { return NodeChanged | PodGone | PodChanged | ResourceMapped }

// The reasons that are the same for all: most pods that wait, wait for these.
var (
	tooManyPods = Refuse("Too many pods")
	lackCPU     = Refuse("Insufficient cpu")
	lackMemory  = Refuse("Insufficient memory")
)

// Filter implements Filter. What exceeds even the empty node is refused for good.
func (f *NodeResourcesFit) Filter(c *Class, n *state.Node) *No {
	want, have, used := &c.Hard, &n.Capacity, &n.Used
	var first *No
	var more []*No
	say := func(no *No) {
		if first == nil {
			first = no
		} else {
			more = append(more, no)
		}
	}
	if used.Pods+1 > have.Pods {
		say(tooManyPods)
	}
	if want.MilliCPU > 0 && want.MilliCPU > have.MilliCPU-used.MilliCPU {
		say(lacking(lackCPU, want.MilliCPU > have.MilliCPU))
	}
	if want.Memory > 0 && want.Memory > have.Memory-used.Memory {
		say(lacking(lackMemory, want.Memory > have.Memory))
	}
	if want.Ephemeral > 0 && want.Ephemeral > have.Ephemeral-used.Ephemeral {
		say(&No{[]string{"Insufficient ephemeral-storage"}, want.Ephemeral > have.Ephemeral})
	}
	for name, q := range want.Other {
		if q > 0 && q > have.Other[name]-used.Other[name] && !f.ignores(name) && !f.devices.given(name, n) {
			say(&No{[]string{"Insufficient " + string(name)}, q > have.Other[name]})
		}
	}
	if more == nil {
		return first
	}
	sum := &No{Reasons: slices.Clone(first.Reasons), Final: first.Final}
	for _, no := range more {
		sum.Reasons = append(sum.Reasons, no.Reasons...)
		sum.Final = sum.Final || no.Final
	}
	return sum
}

func lacking(no *No, always bool) *No {
	if !always {
		return no
	}
	return &No{Reasons: no.Reasons, Final: true}
}

func (f *NodeResourcesFit) ignores(name corev1.ResourceName) bool {
	if !isExtended(name) {
		return false
	}
	group, _, _ := strings.Cut(string(name), "/")
	return slices.Contains(f.ignored, string(name)) || slices.Contains(f.groups, group)
}

// isExtended tells resources that somebody outside Kubernetes defines.
func isExtended(name corev1.ResourceName) bool {
	group, _, ok := strings.Cut(string(name), "/")
	return ok && group != "kubernetes.io" && !strings.HasSuffix(group, ".kubernetes.io")
}

// Scorer implements Absolute: the weighted mean of what the strategy makes of
// each resource.
func (f *NodeResourcesFit) Scorer(c *Class, _ *state.State) func(*state.Node) int64 {
	return func(n *state.Node) int64 {
		var sum, weights int64
		for i := range f.resources {
			r := &f.resources[i]
			capacity, _, with := amounts(c, n, f.devices, corev1.ResourceName(r.Name), true)
			if capacity == 0 {
				continue
			}
			score := f.strategy(with, capacity)
			if f.roundOff && score <= 0 {
				continue
			}
			sum += score * r.Weight
			weights += r.Weight
		}
		switch {
		case weights == 0:
			return 0
		case f.roundOff:
			return (2*sum + weights) / (2 * weights) // to the nearest
		}
		return sum / weights
	}
}

// amounts returns how much of a resource a node has, how much is taken, and how
// much would be with the pod; zeros for what the pod does not ask for unless
// every pod takes some of it. compared counts defaults for pods that ask for
// none.
func amounts(c *Class, n *state.Node, d *Devices, name corev1.ResourceName, compared bool) (capacity, taken, with int64) {
	switch name {
	case corev1.ResourceCPU:
		if compared {
			return n.Capacity.MilliCPU, n.Compared.MilliCPU, n.Compared.MilliCPU + c.Compared.MilliCPU
		}
		return n.Capacity.MilliCPU, n.Used.MilliCPU, n.Used.MilliCPU + c.Hard.MilliCPU
	case corev1.ResourceMemory:
		if compared {
			return n.Capacity.Memory, n.Compared.Memory, n.Compared.Memory + c.Compared.Memory
		}
		return n.Capacity.Memory, n.Used.Memory, n.Used.Memory + c.Hard.Memory
	case corev1.ResourceEphemeralStorage:
		return n.Capacity.Ephemeral, n.Used.Ephemeral, n.Used.Ephemeral + c.Hard.Ephemeral
	}
	want := c.Hard.Other[name]
	if want == 0 {
		return 0, 0, 0
	}
	if d.given(name, n) {
		if capacity, taken = d.totals(d.classFor(name), n.Object); capacity > 0 {
			return capacity, taken, taken + want
		}
	}
	return n.Capacity.Other[name], n.Used.Other[name], n.Used.Other[name] + want
}

func leastAllocated(requested, capacity int64) int64 {
	if requested > capacity {
		return 0
	}
	return (capacity - requested) * MaxScore / capacity
}

// mostAllocated takes more than there is, as pods that request nothing count
// for something, as full.
func mostAllocated(requested, capacity int64) int64 {
	return min(requested, capacity) * MaxScore / capacity
}

// ratioOf interpolates a shape, whose scores go to 10, by the part requested.
func ratioOf(shape []configv1.UtilizationShapePoint) func(requested, capacity int64) int64 {
	return func(requested, capacity int64) int64 {
		used := int64(MaxScore)
		if requested <= capacity {
			used = requested * MaxScore / capacity
		}
		for i := range shape {
			at, score := int64(shape[i].Utilization), int64(shape[i].Score)*MaxScore/10
			if used > at {
				continue
			}
			if i == 0 || used == at {
				return score
			}
			before, from := int64(shape[i-1].Utilization), int64(shape[i-1].Score)*MaxScore/10
			return from + (score-from)*(used-before)/(at-before)
		}
		return int64(shape[len(shape)-1].Score) * MaxScore / 10
	}
}
