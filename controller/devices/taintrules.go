package devices

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/controller/podstate"
	"sagong/object"
	"sagong/reconcile"
)

// statusEvery is how long a rule's condition stays as it is while pods leave:
// upstream's.
const statusEvery = 10 * time.Second

// Evictions counts the pods that had to leave by the rule that they left for.
type Evictions struct {
	mu sync.Mutex
	n  map[types.UID]int
	// told is called with rules that more pods leave for.
	told func(rule string)
}

// note counts a pod that left, or with no one that will.
func (e *Evictions) note(rules []*resourcev1.DeviceTaintRule, left int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range rules {
		if left > 0 {
			if e.n == nil {
				e.n = map[types.UID]int{}
			}
			e.n[r.UID] += left
		}
		if e.told != nil {
			e.told(r.Name)
		}
	}
}

func (e *Evictions) of(rule types.UID) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.n[rule]
}

func (e *Evictions) forget(rule types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.n, rule)
}

type ruleController struct {
	*taintController
	e *Evictions
}

// NewTaintRules returns the controller that says in the status of rules how far
// their evictions are, and what those that only look would do.
func NewTaintRules(h *reconcile.Hub, e *Evictions) reconcile.Controller {
	return &ruleController{newTaints(h), e}
}

func (c *ruleController) Name() string { return "device-taint-rule-status" }

func (c *ruleController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.On(c.rules, func(old, new *resourcev1.DeviceTaintRule, enqueue func(object.Key)) {
			switch {
			case new == nil:
				c.e.forget(old.UID)
			case old == nil || old.UID != new.UID || old.Generation != new.Generation:
				enqueue(object.KeyOf(new))
			}
		}),
		reconcile.Reads(c.pods), reconcile.Reads(c.claims), reconcile.Reads(c.slices),
	}
}

func (c *ruleController) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.rules.Definition().GVK().GroupKind(), Field: "status"}}
}

// Run implements reconcile.Runner: evictions have the rules looked at again.
func (c *ruleController) Run(ctx context.Context, _ client.Client, enqueue func(object.Key)) error {
	c.e.mu.Lock()
	c.e.told = func(rule string) { enqueue(object.Key{Name: rule}) }
	c.e.mu.Unlock()
	<-ctx.Done()
	c.e.mu.Lock()
	c.e.told = nil
	c.e.mu.Unlock()
	return ctx.Err()
}

func (c *ruleController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	r, ok := c.rules.Get("", key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	was := meta.FindStatusCondition(r.Status.Conditions, resourcev1.DeviceTaintConditionEvictionInProgress)
	now := time.Now()
	if was != nil && was.ObservedGeneration == r.Generation {
		if wait := was.LastTransitionTime.Add(statusEvery).Sub(now); wait > 0 {
			return reconcile.Result{After: wait}, nil
		}
	}
	is := c.condition(r)
	if was != nil {
		is.LastTransitionTime = was.LastTransitionTime
		if is == *was {
			return again(is), nil
		}
	}
	is.LastTransitionTime = metav1.NewTime(now)
	next := r.DeepCopy()
	meta.RemoveStatusCondition(&next.Status.Conditions, is.Type)
	next.Status.Conditions = append(next.Status.Conditions, is)
	if _, err := client.UpdateStatus(ctx, w, next); err != nil {
		return reconcile.Result{}, gone(err)
	}
	return again(is), nil
}

// again has a rule looked at again while pods are to leave for it.
func again(x metav1.Condition) reconcile.Result {
	if x.Status == metav1.ConditionTrue {
		return reconcile.Result{After: statusEvery}
	}
	return reconcile.Result{}
}

// condition says how far the evictions of a rule are.
func (c *ruleController) condition(r *resourcev1.DeviceTaintRule) metav1.Condition {
	x := metav1.Condition{Type: resourcev1.DeviceTaintConditionEvictionInProgress, Status: metav1.ConditionFalse, ObservedGeneration: r.Generation}
	left := c.e.of(r.UID)
	switch r.Spec.Taint.Effect {
	case resourcev1.DeviceTaintEffectNoExecute:
		pods, namespaces := c.pending(r)
		switch {
		case pods > 0:
			x.Status, x.Reason = metav1.ConditionTrue, "PodsPendingEviction"
			x.Message = fmt.Sprintf("%s to be evicted in %s.", few(pods, "1 pod needs", "pods need"), few(namespaces, "1 namespace", "different namespaces"))
		case left > 0:
			x.Reason = "Completed"
		default:
			x.Reason = "NotStarted"
		}
	case resourcev1.DeviceTaintEffectNone:
		as := r.DeepCopy()
		as.Spec.Taint.Effect = resourcev1.DeviceTaintEffectNoExecute
		pods, namespaces := c.pending(as)
		offered, allocated := c.selected(r)
		x.Reason = "NoEffect"
		x.Message = fmt.Sprintf("%s selected. %s selected. %s would be evicted in %s if the effect was NoExecute. This information will not be updated again. Recreate the DeviceTaintRule to trigger an update.",
			few(offered, "1 published device", "published devices"), few(allocated, "1 allocated device", "allocated devices"), few(pods, "1 pod", "pods"), few(namespaces, "1 namespace", "different namespaces"))
	default:
		x.Reason, x.Message = "OtherEffect", "Eviction only happens for the NoExecute effect."
	}
	if left > 0 {
		if x.Message != "" {
			x.Message += " "
		}
		x.Message += few(left, "1 pod", "pods") + " evicted since starting the controller."
	}
	return x
}

func few(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// pending counts the pods that have to leave for a rule, now or later, and their
// namespaces.
func (c *ruleController) pending(r *resourcev1.DeviceTaintRule) (pods, namespaces int) {
	seen := map[string]bool{}
	counted := map[types.UID]bool{}
	for x := range c.claims.Each() {
		if !c.evicts(r, x) {
			continue
		}
		for _, p := range c.pods.By(byClaim, x.Namespace+"/"+x.Name) {
			if p.DeletionTimestamp != nil || podstate.Finished(p) || p.Spec.NodeName == "" || counted[p.UID] || !reserved(x, p) {
				continue
			}
			counted[p.UID] = true
			seen[p.Namespace] = true
		}
	}
	return len(counted), len(seen)
}

func reserved(x *resourcev1.ResourceClaim, p *corev1.Pod) bool {
	for _, u := range x.Status.ReservedFor {
		if u.UID == p.UID {
			return true
		}
	}
	return false
}

// evicts tells whether a rule ends the use of some device of a claim.
func (c *ruleController) evicts(r *resourcev1.DeviceTaintRule, x *resourcev1.ResourceClaim) bool {
	if x.Status.Allocation == nil {
		return false
	}
	for i := range x.Status.Allocation.Devices.Results {
		d := &x.Status.Allocation.Devices.Results[i]
		if !selects(r, d) {
			continue
		}
		if _, ends := endOf(&r.Spec.Taint, d.Tolerations); ends {
			return true
		}
	}
	return false
}

// selected counts the devices that a rule is about: those on offer and those that
// claims have.
func (c *ruleController) selected(r *resourcev1.DeviceTaintRule) (offered, allocated int) {
	newest := map[string]int64{}
	for s := range c.slices.Each() {
		k := s.Spec.Driver + "/" + s.Spec.Pool.Name
		newest[k] = max(newest[k], s.Spec.Pool.Generation)
	}
	for s := range c.slices.Each() {
		if s.Spec.Pool.Generation != newest[s.Spec.Driver+"/"+s.Spec.Pool.Name] {
			continue
		}
		for i := range s.Spec.Devices {
			if selects(r, &resourcev1.DeviceRequestAllocationResult{Driver: s.Spec.Driver, Pool: s.Spec.Pool.Name, Device: s.Spec.Devices[i].Name}) {
				offered++
			}
		}
	}
	for x := range c.claims.Each() {
		if x.Status.Allocation == nil {
			continue
		}
		for i := range x.Status.Allocation.Devices.Results {
			if selects(r, &x.Status.Allocation.Devices.Results[i]) {
				allocated++
			}
		}
	}
	return offered, allocated
}
