package cleanup

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/controller/podstate"
	"sagong/object"
	"sagong/reconcile"
)

const (
	// terminatedLimit is how many finished pods are kept, and quarantine how
	// long a node must be missing before its pods are given up: upstream's.
	terminatedLimit = 12500
	quarantine      = 40 * time.Second
)

// terminatedKey is the key of the check for too many finished pods. It is no
// pod's: those have a namespace.
var terminatedKey = object.Key{Name: "terminated"}

// finishedIndex holds the pods that have come to their end, under "".
const finishedIndex = "finished"

type podCollector struct {
	pods     *reconcile.View[*corev1.Pod]
	nodes    *reconcile.View[*corev1.Node]
	limit    int
	mu       sync.Mutex
	missing  map[string]time.Time // nodes, since when
	finished int
}

// NewPodGarbageCollector returns the controller that deletes pods whose node is
// gone, that are deleted but were never scheduled, that are stuck on a node out
// of service, and the oldest finished ones when there are too many.
func NewPodGarbageCollector(h *reconcile.Hub) reconcile.Controller {
	c := &podCollector{
		pods: reconcile.ViewOf[*corev1.Pod](h), nodes: reconcile.ViewOf[*corev1.Node](h),
		limit: terminatedLimit, missing: map[string]time.Time{},
	}
	c.pods.Index("node", func(p *corev1.Pod) []string { return []string{p.Spec.NodeName} })
	c.pods.Index(finishedIndex, func(p *corev1.Pod) []string {
		if podstate.Finished(p) {
			return []string{""}
		}
		return nil
	})
	return c
}

func (c *podCollector) Name() string { return "pod-garbage-collector" }

func (c *podCollector) Inputs() []reconcile.Input {
	c.mu.Lock()
	c.finished = 0 // what there is is announced anew
	c.mu.Unlock()
	return []reconcile.Input{
		reconcile.On(c.pods, c.podChanged),
		reconcile.On(c.nodes, func(old, new *corev1.Node, enqueue func(object.Key)) {
			switch {
			case new == nil:
				c.mu.Lock()
				maps.DeleteFunc(c.missing, func(node string, since time.Time) bool {
					return time.Since(since) > time.Hour && c.pods.Count("node", node) == 0
				})
				c.missing[old.Name] = time.Now()
				c.mu.Unlock()
			case old == nil:
				c.mu.Lock()
				delete(c.missing, new.Name)
				c.mu.Unlock()
				if !outOfService(new) {
					return
				}
			case !outOfService(new) || nodeReady(new) || outOfService(old) && !nodeReady(old):
				return
			}
			n := new
			if n == nil {
				n = old
			}
			for _, p := range c.pods.By("node", n.Name) {
				enqueue(object.KeyOf(p))
			}
		}),
	}
}

func (c *podCollector) podChanged(old, new *corev1.Pod, enqueue func(object.Key)) {
	c.mu.Lock()
	if old != nil && podstate.Finished(old) {
		c.finished--
	}
	if new != nil && podstate.Finished(new) {
		c.finished++
	}
	crowded := c.finished > c.limit
	c.mu.Unlock()
	if crowded {
		enqueue(terminatedKey)
	}
	if new == nil {
		return
	}
	if new.Spec.NodeName == "" {
		if new.DeletionTimestamp != nil {
			enqueue(object.KeyOf(new))
		}
		return
	}
	if old == nil || old.Spec.NodeName != new.Spec.NodeName || (old.DeletionTimestamp == nil) != (new.DeletionTimestamp == nil) {
		if n, ok := c.nodes.Get("", new.Spec.NodeName); !ok || outOfService(n) {
			enqueue(object.KeyOf(new))
		}
	}
}

func (c *podCollector) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.pods.Definition().GVK().GroupKind(), Field: "phase of lost pods"}}
}

func (c *podCollector) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	if key == terminatedKey {
		return reconcile.Result{}, c.thinOut(ctx, w)
	}
	p, ok := c.pods.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	if p.Spec.NodeName == "" {
		if p.DeletionTimestamp == nil {
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, giveUp(ctx, w, p, "")
	}
	if n, ok := c.nodes.Get("", p.Spec.NodeName); ok {
		if p.DeletionTimestamp != nil && outOfService(n) && !nodeReady(n) {
			return reconcile.Result{}, giveUp(ctx, w, p, "")
		}
		return reconcile.Result{}, nil
	}
	c.mu.Lock()
	since, noted := c.missing[p.Spec.NodeName]
	if !noted {
		since = time.Now()
		c.missing[p.Spec.NodeName] = since
	}
	c.mu.Unlock()
	if wait := quarantine - time.Since(since); wait > 0 {
		return reconcile.Result{After: wait}, nil
	}
	switch _, err := client.Get[*corev1.Node](ctx, w, "", p.Spec.NodeName); {
	case err == nil:
		return reconcile.Result{}, nil // the view will see it
	case !apierrors.IsNotFound(err):
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, giveUp(ctx, w, p, "PodGC: node no longer exists")
}

// thinOut deletes the oldest finished pods beyond the limit, evicted ones first.
func (c *podCollector) thinOut(ctx context.Context, w client.Client) error {
	finished := c.pods.By(finishedIndex, "")
	surplus := len(finished) - c.limit
	if surplus <= 0 {
		return nil
	}
	slices.SortFunc(finished, func(a, b *corev1.Pod) int {
		if x, y := a.Status.Reason == "Evicted", b.Status.Reason == "Evicted"; x != y {
			if x {
				return -1
			}
			return 1
		}
		return cmp.Or(a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	var now int64
	var writes []client.Write
	for _, p := range finished[:surplus] {
		writes = append(writes, client.Write{
			Op: client.OpDelete, Definition: c.pods.Definition(),
			Object: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID}},
			Delete: metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: metav1.NewUIDPreconditions(string(p.UID))},
		})
	}
	for _, r := range w.Batch(ctx, writes) {
		if r.Err != nil && !apierrors.IsNotFound(r.Err) {
			return r.Err
		}
	}
	return nil
}

// giveUp deletes a pod at once. One that is not known to have finished is marked
// as failed first; disruption, when not empty, is told as the reason, also of one
// that has finished.
func giveUp(ctx context.Context, w client.Client, p *corev1.Pod, disruption string) error {
	if finished := podstate.Finished(p); !finished || disruption != "" {
		next, changed := p.DeepCopy(), !finished
		if !finished {
			next.Status.Phase = corev1.PodFailed
		}
		if disruption != "" {
			changed = podstate.SetCondition(&next.Status, corev1.PodCondition{
				Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, ObservedGeneration: p.Generation,
				Reason: "DeletionByPodGC", Message: disruption, LastTransitionTime: metav1.Now(),
			}) || changed
		}
		if changed {
			if _, err := client.UpdateStatus(ctx, w, next); err != nil {
				return ignoreMissing(err)
			}
		}
	}
	var now int64
	return ignoreMissing(client.Delete[*corev1.Pod](ctx, w, p.Namespace, p.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: metav1.NewUIDPreconditions(string(p.UID)),
	}))
}

func outOfService(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

func nodeReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
