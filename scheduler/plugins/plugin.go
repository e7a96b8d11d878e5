// Package plugins holds the rules of placement, one file a rule, under the names
// and weights that upstream gives them. All lists them in order.
package plugins

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"sagong/scheduler/state"
)

// Class is what all pods with the same demands have in common; they are placed
// together.
type Class struct {
	Pod      *corev1.Pod // one of them
	Requests state.Resources
	Compared state.Resources
	Ports    []state.Port

	required  nodeaffinity.RequiredNodeAffinity
	preferred *nodeaffinity.PreferredSchedulingTerms
}

// NewClass reads a pod's demands. It fails on an affinity that cannot be parsed.
func NewClass(p *corev1.Pod) (*Class, error) {
	c := &Class{Pod: p, Ports: state.Ports(p), required: nodeaffinity.GetRequiredNodeAffinity(p)}
	c.Requests, c.Compared = state.Requests(p)
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		terms, err := nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
		if err != nil {
			return nil, err
		}
		c.preferred = terms
	}
	return c, nil
}

// Change is a kind of event that may make room for a pod that did not fit.
type Change uint16

// The changes a plugin may wait for.
const (
	NodeChanged Change = 1 << iota
	PodGone
	PodPlaced
	PodChanged
	VolumeChanged
)

// Plugin is one rule.
type Plugin interface {
	// Name is upstream's name of the rule.
	Name() string
	// Helps says which changes may turn this plugin's no into a yes.
	Helps() Change
}

// No is why a pod cannot go on a node, or on any.
type No struct {
	Reasons []string // in upstream's words
	// Final says that taking pods off the node would not help: upstream's
	// UnschedulableAndUnresolvable.
	Final bool
}

// Refuse makes a No that taking pods away may turn round.
func Refuse(reasons ...string) *No { return &No{Reasons: reasons} }

// RefuseFinally makes a No that taking pods away does not change.
func RefuseFinally(reasons ...string) *No { return &No{Reasons: reasons, Final: true} }

// Filter is a rule that rules nodes out by what they and their pods are.
type Filter interface {
	Plugin
	// Filter returns why a pod of the class cannot go on a node, or nil.
	Filter(c *Class, n *state.Node) *No
}

// Static is a Score that depends on the node object alone: it is worked out
// once for all pods of a class placed together.
type Static interface {
	Plugin
	Weight() int64
	// Score returns a raw count; Normalize brings those of all feasible nodes
	// to 0..100.
	Score(c *Class, n *state.Node) int64
	Normalize(scores []int64)
}

// Dynamic is a score that changes with each pod placed; 0..100.
type Dynamic interface {
	Plugin
	Weight() int64
	ScoreAfter(c *Class, n *state.Node) int64
}

// Global is a rule whose verdict on every node changes with each pod placed,
// as it counts pods over groups of nodes.
type Global interface {
	Plugin
	// Begin counts for a class; nil when the rule does not concern it.
	Begin(c *Class, s *state.State) Counting
}

// Counting is a Global rule at work on one class.
type Counting interface {
	Filter(n *state.Node) *No
	// Score is a raw preference, to be maximised; Weight may be 0.
	Score(n *state.Node) int64
	Weight() int64
	// Placed counts a pod of the class that was put on a node.
	Placed(n *state.Node)
}

// MaxScore is the best score a rule can give before its weight.
const MaxScore = 100

// normalize scales counts to 0..MaxScore by the largest; reverse makes the
// smallest count the best.
func normalize(scores []int64, reverse bool) {
	var top int64
	for _, s := range scores {
		top = max(top, s)
	}
	for i, s := range scores {
		switch {
		case top == 0 && reverse:
			scores[i] = MaxScore
		case top == 0:
		case reverse:
			scores[i] = MaxScore - s*MaxScore/top
		default:
			scores[i] = s * MaxScore / top
		}
	}
}
