package nodes

import (
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/klog/v2"

	"sagong/client"
	"sagong/controller/podstate"
	"sagong/object"
	"sagong/reconcile"
)

type evictionController struct {
	nodes  *reconcile.View[*corev1.Node]
	pods   *reconcile.View[*corev1.Pod]
	events client.Recorder
	m      *Metrics

	mu sync.Mutex
	// since is when NoExecute taints that bear no time were first seen, by
	// node and taint; due the pods whose eviction is announced.
	since map[string]map[taintID]time.Time
	due   map[object.Key]bool
}

type taintID struct{ key, value string }

// NewTaintEviction returns the controller that deletes pods from nodes with
// NoExecute taints once they no longer tolerate them.
func NewTaintEviction(h *reconcile.Hub, events client.Recorder, m *Metrics) reconcile.Controller {
	c := &evictionController{
		nodes: reconcile.ViewOf[*corev1.Node](h), pods: reconcile.ViewOf[*corev1.Pod](h), events: events, m: m,
		since: map[string]map[taintID]time.Time{}, due: map[object.Key]bool{},
	}
	indexNodes(c.pods)
	return c
}

func (c *evictionController) Name() string { return "taint-eviction" }

func (c *evictionController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.On(c.nodes, func(old, new *corev1.Node, enqueue func(object.Key)) {
			if new == nil {
				c.mu.Lock()
				delete(c.since, old.Name)
				c.mu.Unlock()
				return
			}
			after := noExecute(new)
			if old == nil && len(after) == 0 || old != nil && slices.EqualFunc(noExecute(old), after, sameTaint) {
				return
			}
			c.remember(new.Name, after)
			for _, p := range c.pods.By(nodeIndex, new.Name) {
				enqueue(object.KeyOf(p))
			}
		}),
		reconcile.On(c.pods, func(old, new *corev1.Pod, enqueue func(object.Key)) {
			if new == nil {
				if c.announce(object.KeyOf(old), false) {
					c.cancelled(old)
				}
				return
			}
			if new.Spec.NodeName == "" || (old != nil && old.Spec.NodeName == new.Spec.NodeName && sameTolerations(old, new)) {
				return
			}
			if n, ok := c.nodes.Get("", new.Spec.NodeName); ok && len(noExecute(n)) > 0 {
				enqueue(object.KeyOf(new))
			}
		}),
	}
}

func (c *evictionController) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.pods.Definition().GVK().GroupKind(), Field: "condition DisruptionTarget by taints"}}
}

func noExecute(n *corev1.Node) (out []corev1.Taint) {
	for _, t := range n.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			out = append(out, t)
		}
	}
	return out
}

// sameTolerations is asked of every change of a pod; the seconds of those that are
// there may change.
func sameTolerations(old, new *corev1.Pod) bool {
	a, b := old.Spec.Tolerations, new.Spec.Tolerations
	if len(a) != len(b) || len(a) == 0 || &a[0] == &b[0] {
		return len(a) == len(b)
	}
	return equality.Semantic.DeepEqual(a, b)
}

func sameTaint(a, b corev1.Taint) bool { return a.Key == b.Key && a.Value == b.Value }

// remember keeps the times at which a node's taints were first seen.
func (c *evictionController) remember(node string, taints []corev1.Taint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := map[taintID]time.Time{}
	for _, t := range taints {
		id := taintID{t.Key, t.Value}
		if at, ok := c.since[node][id]; ok {
			next[id] = at
		} else {
			next[id] = time.Now()
		}
	}
	if len(next) == 0 {
		delete(c.since, node)
		return
	}
	c.since[node] = next
}

func (c *evictionController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	p, ok := c.pods.Get(key.Namespace, key.Name)
	if !ok || p.Spec.NodeName == "" || p.DeletionTimestamp != nil {
		c.announce(key, false)
		return reconcile.Result{}, nil
	}
	n, ok := c.nodes.Get("", p.Spec.NodeName)
	if !ok {
		return reconcile.Result{}, nil // the pod garbage collector's
	}
	now := time.Now()
	wait, leave := leavesIn(p, noExecute(n), func(t corev1.Taint) time.Time { return c.seen(n.Name, t, now) }, now)
	if !leave {
		if c.announce(key, false) {
			c.cancelled(p)
		}
		return reconcile.Result{}, nil
	}
	if wait > 0 {
		c.announce(key, true)
		return reconcile.Result{After: wait}, nil
	}
	c.events.Eventf(p, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s", key)
	c.announce(key, false) // before it goes, which is no cancellation
	if err := podstate.Evict(ctx, w, p, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"); err != nil {
		c.announce(key, true)
		return reconcile.Result{}, err
	}
	c.m.evicted(time.Since(now))
	return reconcile.Result{}, nil
}

func (c *evictionController) cancelled(p *corev1.Pod) {
	c.events.Eventf(p, corev1.EventTypeNormal, "TaintManagerEviction", "Cancelling deletion of Pod %s", object.KeyOf(p))
}

// announce notes whether a pod's eviction is ahead and says whether it was.
func (c *evictionController) announce(key object.Key, ahead bool) (was bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was = c.due[key]
	if ahead {
		c.due[key] = true
	} else {
		delete(c.due, key)
	}
	return was
}

// seen is when a taint came: what it says itself, or when it was first noticed.
func (c *evictionController) seen(node string, t corev1.Taint, now time.Time) time.Time {
	if t.TimeAdded != nil {
		return t.TimeAdded.Time
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.since[node][taintID{t.Key, t.Value}]; ok {
		return at
	}
	return now
}

// leavesIn says whether a pod must leave a node with these taints, and in how
// long: at once when it does not tolerate one, else when the shortest time for
// which it tolerates one is over.
func leavesIn(p *corev1.Pod, taints []corev1.Taint, added func(corev1.Taint) time.Time, now time.Time) (wait time.Duration, leaves bool) {
	for i := range taints {
		t := &taints[i]
		// Of several that match, the first counts, as upstream has it.
		j := slices.IndexFunc(p.Spec.Tolerations, func(tol corev1.Toleration) bool { return tol.ToleratesTaint(klog.Logger{}, t, true) })
		if j < 0 {
			return 0, true
		}
		seconds := p.Spec.Tolerations[j].TolerationSeconds
		if seconds == nil {
			continue
		}
		// A pod that came later than the taint has its time from then on.
		from := added(*t)
		if at := placedAt(p); at.After(from) {
			from = at
		}
		left := max(0, from.Add(time.Duration(max(0, *seconds))*time.Second).Sub(now))
		if !leaves || left < wait {
			wait, leaves = left, true
		}
	}
	return wait, leaves
}

// placedAt is when a pod came to its node.
func placedAt(p *corev1.Pod) time.Time {
	if c := podstate.Condition(p, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionTrue {
		return c.LastTransitionTime.Time
	}
	return p.CreationTimestamp.Time
}
