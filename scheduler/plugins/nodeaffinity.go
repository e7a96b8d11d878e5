package plugins

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"sagong/scheduler/state"
)

// NodeAffinity obeys nodeSelector and node affinity, and the affinity that a
// profile adds to all its pods.
type NodeAffinity struct {
	added          *nodeaffinity.NodeSelector
	addedPreferred *nodeaffinity.PreferredSchedulingTerms
}

// NewNodeAffinity makes the rule with the affinity that a profile adds; nil for
// none.
func NewNodeAffinity(added *corev1.NodeAffinity) (NodeAffinity, error) {
	var f NodeAffinity
	if added == nil {
		return f, nil
	}
	var err error
	if r := added.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
		if f.added, err = nodeaffinity.NewNodeSelector(r); err != nil {
			return f, fmt.Errorf("cannot read the added required affinity: %w", err)
		}
	}
	if p := added.PreferredDuringSchedulingIgnoredDuringExecution; len(p) > 0 {
		if f.addedPreferred, err = nodeaffinity.NewPreferredSchedulingTerms(p); err != nil {
			return f, fmt.Errorf("cannot read the added preferred affinity: %w", err)
		}
	}
	return f, nil
}

// Name implements Plugin.
func (NodeAffinity) Name() string { return "NodeAffinity" }

// Helps implements Plugin.
func (NodeAffinity) Helps() Change { return NodeChanged }

var (
	notEnforced = RefuseFinally("node(s) didn't match scheduler-enforced node affinity")
	notSelected = RefuseFinally("node(s) didn't match Pod's node affinity/selector")
)

// Filter implements Filter.
func (f NodeAffinity) Filter(c *Class, n *state.Node) *No {
	if f.added != nil && !f.added.Match(n.Object) {
		return notEnforced
	}
	if ok, err := c.required.Match(n.Object); err == nil && ok {
		return nil
	}
	return notSelected
}

// Prefers implements Relative.
func (f NodeAffinity) Prefers(c *Class) bool { return c.preferred != nil || f.addedPreferred != nil }

// Score implements Relative: the weights of the preferred terms that match.
func (f NodeAffinity) Score(c *Class, n *state.Node) int64 {
	var sum int64
	if f.addedPreferred != nil {
		sum = f.addedPreferred.Score(n.Object)
	}
	if c.preferred != nil {
		sum += c.preferred.Score(n.Object)
	}
	return sum
}

// Reverse implements Relative.
func (NodeAffinity) Reverse() bool { return false }
