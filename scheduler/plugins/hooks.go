package plugins

import (
	"context"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sagong/client"
	"sagong/reconcile"
	"sagong/scheduler/state"
)

// This file is the seam for rules that look beyond nodes and pods, as those of
// volumes do. Such a rule follows its own kinds (Starter), looks at a class once
// (PreFilter), rules nodes out (NodeFilter), takes note of what a placed pod will
// use (Reserver), and writes or waits before the pod is bound (PreBinder).
//
// Everything but PreBind runs in the scheduler's one goroutine: a rule needs no
// lock for what only these methods and functions given to Deps.Post touch.

// Deps is what rules are made of.
type Deps struct {
	Hub    *reconcile.Hub // nil in tests of rules that follow nothing
	Client client.Client
	Events client.Recorder
	// Groups says that groups of pods are served.
	Groups bool
	Log    *slog.Logger
	Now    func() time.Time
	// Post runs f in the scheduler's goroutine, in the order of calls. Handlers
	// of views use it to change what the rule knows.
	Post func(f func())
	// Changed says that pods which wait for such a change should be tried again.
	// It may be called in the scheduler's goroutine only.
	Changed func(Change)
}

// Starter is a rule that follows kinds of its own.
type Starter interface {
	Plugin
	// Start waits until the rule's views have their first list and subscribes to
	// them. stop ends the subscriptions.
	Start(ctx context.Context) (stop func(), err error)
}

// PreFilter is a rule that looks at a class once before it looks at nodes.
type PreFilter interface {
	Plugin
	// Begin returns what judges the nodes for this class, nil when the rule does
	// not concern the class, or why its pods fit nowhere at all: such a refusal
	// stands in the message without a count of nodes, as upstream's of PreFilter
	// do. What it returns is kept with the class's plan until Version changes.
	Begin(c *Class, s *state.State) (NodeFilter, *No)
}

// NodeFilter judges nodes for one class.
type NodeFilter interface {
	// Filter returns why the class's pods cannot go on a node. It must judge by
	// the pods that the node has as it is given: pre-emption takes some off it to
	// ask, while the state still lists them.
	Filter(n *state.Node) *No
	// Version changes whenever verdicts may have changed for another reason than
	// a change of that node or of the pods on it; verdicts are kept otherwise.
	Version() uint64
}

// Reserver is a rule that must know of each pod given a node.
type Reserver interface {
	Plugin
	// Reserve notes what the pod will use on the node, before anything is
	// written. A refusal parks the pod.
	Reserve(c *Class, p *corev1.Pod, n *state.Node) *No
	// Unreserve takes back what Reserve noted, after a failure of any kind. It
	// must bear being called without Reserve having been called.
	Unreserve(p *corev1.Pod, node string)
}

// PostBinder is a rule that wants to know that a pod it reserved for is bound.
type PostBinder interface {
	Plugin
	// Bound is called outside the scheduler's goroutine, once, instead of
	// Unreserve.
	Bound(p *corev1.Pod)
}

// Unblocker is a rule that may hold things for a pod which fits nowhere.
type Unblocker interface {
	Plugin
	// Unblock gives back what the pod's fitting nowhere shows to be of no use,
	// and says so for the pod's condition; "" when it has nothing to say.
	Unblock(p *corev1.Pod) string
}

// PreBinder is a rule that writes or waits before a pod is bound.
type PreBinder interface {
	Plugin
	// Binds tells whether PreBind has anything to do for a pod whose reservation
	// was made; the binding of all others is not held up.
	Binds(p *corev1.Pod, node string) bool
	// PreBind runs outside the scheduler's goroutine, for many pods at a time. An
	// error takes the placement back, and the pod is tried again after its
	// back-off with that message in its FailedScheduling event.
	PreBind(ctx context.Context, p *corev1.Pod, node string) error
}
