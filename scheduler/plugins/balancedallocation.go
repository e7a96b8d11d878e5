package plugins

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"sagong/scheduler/state"
)

// BalancedAllocation prefers nodes whose resources fill up alike, and most of
// all those that the pod makes more alike.
type BalancedAllocation struct {
	resources []configv1.ResourceSpec
	devices   *Devices // that stand for extended resources; may be nil
}

// NewBalancedAllocation makes the rule from complete arguments.
func NewBalancedAllocation(a *configv1.NodeResourcesBalancedAllocationArgs) BalancedAllocation {
	return BalancedAllocation{resources: a.Resources}
}

// Name implements Plugin.
func (BalancedAllocation) Name() string { return "NodeResourcesBalancedAllocation" }

// Helps implements Plugin.
func (BalancedAllocation) Helps() Change { return 0 }

// Scorer implements Absolute. Pods that ask for none of the resources tilt
// nothing, and get no score.
func (b BalancedAllocation) Scorer(c *Class, _ *state.State) func(*state.Node) int64 {
	asks := false
	for _, r := range b.resources {
		switch name := corev1.ResourceName(r.Name); name {
		case corev1.ResourceCPU:
			asks = asks || c.Hard.MilliCPU > 0
		case corev1.ResourceMemory:
			asks = asks || c.Hard.Memory > 0
		case corev1.ResourceEphemeralStorage:
			asks = asks || c.Hard.Ephemeral > 0
		default:
			asks = asks || c.Hard.Other[name] > 0
		}
	}
	if !asks {
		return nil
	}
	return func(n *state.Node) int64 {
		before, after := make([]float64, 0, 8), make([]float64, 0, 8)
		for i := range b.resources {
			capacity, taken, with := amounts(c, n, b.devices, corev1.ResourceName(b.resources[i].Name), false)
			if capacity == 0 {
				continue
			}
			before = append(before, min(float64(taken)/float64(capacity), 1))
			after = append(after, min(float64(with)/float64(capacity), 1))
		}
		return MaxScore/2 + (MaxScore/2+evenness(after)-evenness(before))/2
	}
}

// evenness is MaxScore less the standard deviation of fractions.
func evenness(fractions []float64) int64 {
	var deviation float64
	switch len(fractions) {
	case 0, 1:
	case 2:
		deviation = math.Abs(fractions[0]-fractions[1]) / 2
	default:
		var mean, sum float64
		for _, f := range fractions {
			mean += f / float64(len(fractions))
		}
		for _, f := range fractions {
			sum += (f - mean) * (f - mean)
		}
		deviation = math.Sqrt(sum / float64(len(fractions)))
	}
	return int64((1 - deviation) * MaxScore)
}
