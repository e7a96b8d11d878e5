package nodes

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/controller/podstate"
	"sagong/object"
	"sagong/reconcile"
)

const nodeIndex = "node"

type lifecycleController struct {
	nodes  *reconcile.View[*corev1.Node]
	leases *reconcile.View[*coordinationv1.Lease]
	pods   *reconcile.View[*corev1.Pod]
	events client.Recorder
	zones  *zones
	m      *Metrics

	mu    sync.Mutex
	beats map[string]heartbeat
}

// NewLifecycle returns the controller that tells silent nodes from live ones and
// taints nodes by their conditions.
func NewLifecycle(h *reconcile.Hub, events client.Recorder, m *Metrics) reconcile.Controller {
	c := &lifecycleController{
		nodes: reconcile.ViewOf[*corev1.Node](h), leases: reconcile.ViewOf[*coordinationv1.Lease](h), pods: reconcile.ViewOf[*corev1.Pod](h),
		events: events, zones: newZones(), m: m, beats: map[string]heartbeat{},
	}
	indexNodes(c.pods)
	return c
}

func indexNodes(pods *reconcile.View[*corev1.Pod]) {
	pods.Index(nodeIndex, func(p *corev1.Pod) []string { return []string{p.Spec.NodeName} })
}

func (c *lifecycleController) Name() string { return "node-lifecycle" }

func (c *lifecycleController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.On(c.nodes, c.nodeChanged),
		reconcile.On(c.leases, func(_, new *coordinationv1.Lease, enqueue func(object.Key)) {
			if new != nil && new.Namespace == leaseNamespace && !c.renewed(new) {
				enqueue(object.Key{Name: new.Name})
			}
		}),
		reconcile.Reads(c.pods),
	}
}

// renewed notes a renewal. It reports whether that is all there is to do, as for
// a node that is not silent: it is looked at again when it could be.
func (c *lifecycleController) renewed(l *coordinationv1.Lease) bool {
	n, ok := c.nodes.Get("", l.Name)
	if !ok {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h, known := c.beats[n.Name]
	if !known {
		return false
	}
	now := time.Now()
	c.beats[n.Name] = h.beat(n, l, now)
	return h.silentIn(now) > 0
}

func (c *lifecycleController) nodeChanged(old, new *corev1.Node, enqueue func(object.Key)) {
	switch {
	case new == nil:
		c.events.Eventf(old, corev1.EventTypeNormal, "RemovingNode", "Node %s event: Removing Node %s from Controller", old.Name, old.Name)
		c.mu.Lock()
		delete(c.beats, old.Name)
		c.mu.Unlock()
		if c.zones.set(old.Name, nil) {
			c.all(enqueue)
		}
		return
	case old == nil:
		c.events.Eventf(new, corev1.EventTypeNormal, "RegisteredNode", "Node %s event: Registered Node %s in Controller", new.Name, new.Name)
	}
	enqueue(object.KeyOf(new))
	if c.zones.set(new.Name, new) {
		c.all(enqueue)
	}
}

func (c *lifecycleController) all(enqueue func(object.Key)) {
	for _, n := range c.nodes.All() {
		if readiness(n) != corev1.ConditionTrue {
			enqueue(object.KeyOf(n))
		}
	}
}

func (c *lifecycleController) Outputs() []reconcile.Output {
	kind := c.nodes.Definition().GVK().GroupKind()
	return []reconcile.Output{{Kind: kind, Field: "conditions of silent nodes"}, {Kind: kind, Field: "taints by condition"}, {Kind: kind, Field: "labels of old names"}}
}

func (c *lifecycleController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	n, ok := c.nodes.Get("", key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	n, err := c.label(ctx, w, n)
	if err != nil {
		return reconcile.Result{}, ignoreMissing(err)
	}
	now := time.Now()
	lease, _ := c.leases.Get(leaseNamespace, key.Name)
	after := c.listen(n, lease, now)
	silent := after == 0
	if silent {
		if conditions, changed := unknownConditions(n, now); changed {
			// The view may be what is late, and not the node.
			live, err := client.Get[*coordinationv1.Lease](ctx, w, leaseNamespace, key.Name)
			switch {
			case err == nil:
				if after = c.listen(n, live, now); after > 0 {
					return reconcile.Result{After: after}, nil
				}
			case !apierrors.IsNotFound(err):
				return reconcile.Result{}, fmt.Errorf("cannot read lease of node: %w", err)
			}
			written, err := c.declareSilent(ctx, w, n, conditions)
			if err != nil {
				return reconcile.Result{}, ignoreMissing(err)
			}
			n = written
		}
	}
	wait, err := c.taint(ctx, w, n, now)
	if err != nil {
		return reconcile.Result{}, err
	}
	if silent {
		// An agent that still reports, if only that its node is not ready, is
		// the one to say how its pods are.
		if err := c.markPods(ctx, w, n); err != nil {
			return reconcile.Result{}, err
		}
	}
	if wait > 0 && (after == 0 || wait < after) {
		after = wait
	}
	return reconcile.Result{After: after}, nil
}

// listen takes in a node's signs of life and says how long until it counts as
// silent, zero when it does.
func (c *lifecycleController) listen(n *corev1.Node, lease *coordinationv1.Lease, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.beats[n.Name].beat(n, lease, now)
	c.beats[n.Name] = h
	return h.silentIn(now)
}

// oldLabels are the names that labels of nodes had before they were stable.
var oldLabels = map[string]string{corev1.LabelOSStable: "beta.kubernetes.io/os", corev1.LabelArchStable: "beta.kubernetes.io/arch"}

// label keeps the old names of labels in line with the stable ones, which agents
// set.
func (c *lifecycleController) label(ctx context.Context, w client.Client, n *corev1.Node) (*corev1.Node, error) {
	labels := map[string]string{}
	for name, old := range oldLabels {
		want, ok := n.Labels[name]
		if has, there := n.Labels[old]; ok && (!there || has != want) {
			labels[old] = want
		}
	}
	if len(labels) == 0 {
		return n, nil
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": n.ResourceVersion, "labels": labels}})
	if err != nil {
		return nil, err
	}
	written, err := client.PatchOf[*corev1.Node](ctx, w, "", n.Name, client.Patch{Type: types.MergePatchType, Data: body})
	if err != nil {
		return nil, fmt.Errorf("cannot label node: %w", err)
	}
	return written, nil
}

func (c *lifecycleController) declareSilent(ctx context.Context, w client.Client, n *corev1.Node, conditions []corev1.NodeCondition) (*corev1.Node, error) {
	was := readiness(n)
	next := n.DeepCopy()
	next.Status.Conditions = conditions
	written, err := client.UpdateStatus(ctx, w, next)
	if err != nil {
		return nil, fmt.Errorf("cannot mark node as silent: %w", err)
	}
	if was == corev1.ConditionTrue {
		c.events.Eventf(n, corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: NodeNotReady", n.Name)
	}
	return written, nil
}

// taint brings a node's taints in line with its conditions. wait says when an
// eviction that is being held back may be tried again.
func (c *lifecycleController) taint(ctx context.Context, w client.Client, n *corev1.Node, now time.Time) (wait time.Duration, err error) {
	evict := false
	if needsEviction(n) {
		evict, wait = c.zones.allow(zoneOf(n), now)
	}
	taints, changed := planTaints(n, n.Status.Conditions, evict, now)
	if c.zones.isDark() {
		kept, dropped := withoutEviction(taints)
		taints, changed = kept, changed || dropped
	}
	if !changed {
		return wait, nil
	}
	if taints == nil {
		taints = []corev1.Taint{}
	}
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": n.ResourceVersion},
		"spec":     map[string]any{"taints": taints},
	})
	if err != nil {
		return 0, err
	}
	_, err = client.PatchOf[*corev1.Node](ctx, w, "", n.Name, client.Patch{Type: types.MergePatchType, Data: body})
	if err = ignoreMissing(err); err != nil {
		return 0, fmt.Errorf("cannot taint node: %w", err)
	}
	if evict {
		c.m.evicting(zoneLabel(n))
	}
	return wait, nil
}

// needsEviction says whether a node lacks the NoExecute taint that its state
// calls for.
func needsEviction(n *corev1.Node) bool {
	for _, t := range wantedTaints(n, n.Status.Conditions) {
		if t.Effect == corev1.TaintEffectNoExecute && !slices.ContainsFunc(n.Spec.Taints, func(h corev1.Taint) bool { return h.Key == t.Key && h.Effect == t.Effect }) {
			return true
		}
	}
	return false
}

// markPods makes the pods of a silent node unready, so that no Service sends
// them anything.
func (c *lifecycleController) markPods(ctx context.Context, w client.Client, n *corev1.Node) error {
	var writes []client.Write
	var pods []*corev1.Pod
	for _, p := range c.pods.By(nodeIndex, n.Name) {
		if !podstate.Ready(p) {
			continue
		}
		next := p.DeepCopy()
		ready := *podstate.Condition(p, corev1.PodReady)
		ready.Status, ready.LastTransitionTime = corev1.ConditionFalse, metav1.Now()
		podstate.SetCondition(&next.Status, ready)
		writes = append(writes, client.Write{Op: client.OpUpdateStatus, Definition: c.pods.Definition(), Object: next})
		pods = append(pods, p)
	}
	if len(writes) == 0 {
		return nil
	}
	var first error
	for i, r := range w.Batch(ctx, writes) {
		switch {
		case r.Err == nil:
			c.events.Eventf(pods[i], corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
		case apierrors.IsNotFound(r.Err):
		case first == nil:
			first = fmt.Errorf("cannot mark pod %s as not ready: %w", object.KeyOf(pods[i]), r.Err)
		}
	}
	return first
}

func ignoreMissing(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
