// Package plugins holds the rules of placement, one file a rule, under the names
// that upstream gives them. All lists them in order.
//
// Rules are asked about classes of pods, not pods, and are asked again about a
// node only when it changed: what they answer must follow from the class, the
// node and, for those that count over groups of nodes, from their own counts.
package plugins

import (
	"sagong/scheduler/state"
)

// Change is a kind of event that may make room for a pod that did not fit.
type Change uint16

// The changes a plugin may wait for.
const (
	NodeChanged Change = 1 << iota
	PodGone
	PodPlaced
	PodChanged
	VolumeChanged
	NamespaceChanged
	ClaimChanged
	ResourceMapped   // a device class stands for other extended resources
	FeaturesDeclared // a node is new, or declares other features
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

// Selective is a Filter that has nothing to say about most classes.
type Selective interface {
	Filter
	// Concerns tells whether the rule may refuse any node for the class; Filter is
	// not asked otherwise.
	Concerns(c *Class) bool
}

// Relative is a score that counts only in comparison: the engine scales it by
// the best among the nodes a pod fits on.
type Relative interface {
	Plugin
	// Prefers tells whether the rule has a preference for the class at all.
	Prefers(c *Class) bool
	// Score is a count of 0 or more.
	Score(c *Class, n *state.Node) int64
	// Reverse says that less is better.
	Reverse() bool
}

// Absolute is a score of 0..MaxScore that follows from the node alone, with what
// is on it before the pod is.
type Absolute interface {
	Plugin
	// Scorer returns the score for a class, nil when the rule has none for it.
	Scorer(c *Class, s *state.State) func(n *state.Node) int64
}

// Global is a rule that counts pods over groups of nodes.
type Global interface {
	Plugin
	// Count begins to count for a class, all nodes still uncounted; nil when the
	// rule does not concern the class.
	Count(c *Class, s *state.State) Counting
}

// Counting is a Global rule at work on one class.
type Counting interface {
	// Recount brings the counts up to date with one node; n is nil when the slot
	// has none any more.
	Recount(slot int, n *state.Node)
	// Sign appends what Filter and Scores depend on besides the counts of whole
	// domains: nodes with equal signatures get equal answers.
	Sign(b []byte, n *state.Node) []byte
	// Filters tells whether Filter may refuse any node as things stand.
	Filters() bool
	// Filter returns why a pod of the class cannot go on a node, or nil.
	Filter(n *state.Node) *No
	// Scores gives each group 0..MaxScore; false when the rule prefers none.
	Scores(groups []Group, scores []int64) bool
	// Stale says that counting must begin anew.
	Stale() bool
	// Same tells whether another, for a class that differs from this one's in
	// labels and owner alone and has counted nothing yet, would count alike.
	Same(other Counting) bool
}

// Group is nodes of one signature that a pod fits on.
type Group struct {
	Node  *state.Node // one of them
	Nodes int
}

// MaxScore is the best score a rule can give before its weight.
const MaxScore = 100
