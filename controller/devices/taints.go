package devices

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"sagong/client"
	"sagong/controller/podstate"
	"sagong/object"
	"sagong/reconcile"
)

const (
	byPool  = "devices/pool"  // claims by "driver/pool" of what they have
	bySlice = "devices/slice" // slices by "driver/pool"
)

type taintController struct {
	pods   *reconcile.View[*corev1.Pod]
	claims *reconcile.View[*resourcev1.ResourceClaim]
	slices *reconcile.View[*resourcev1.ResourceSlice]
	rules  *reconcile.View[*resourcev1.DeviceTaintRule]
	events client.Recorder

	left *Evictions

	mu  sync.Mutex
	due map[object.Key]bool // pods whose eviction is announced
}

// NewTaintEviction returns the controller that deletes pods whose devices have
// taints of the effect NoExecute, once their claims no longer tolerate them.
func NewTaintEviction(h *reconcile.Hub, events client.Recorder, left *Evictions) reconcile.Controller {
	c := newTaints(h)
	c.events, c.left = events, left
	return c
}

func newTaints(h *reconcile.Hub) *taintController {
	c := &taintController{
		pods: podView(h), claims: claimView(h), slices: reconcile.ViewOf[*resourcev1.ResourceSlice](h),
		rules: reconcile.ViewOf[*resourcev1.DeviceTaintRule](h), due: map[object.Key]bool{},
	}
	c.claims.Index(byPool, func(x *resourcev1.ResourceClaim) (keys []string) {
		if x.Status.Allocation != nil {
			for i := range x.Status.Allocation.Devices.Results {
				r := &x.Status.Allocation.Devices.Results[i]
				keys = append(keys, r.Driver+"/"+r.Pool)
			}
		}
		return keys
	})
	c.slices.Index(bySlice, func(s *resourcev1.ResourceSlice) []string { return []string{s.Spec.Driver + "/" + s.Spec.Pool.Name} })
	return c
}

func (c *taintController) Name() string { return "device-taint-eviction" }

func (c *taintController) Inputs() []reconcile.Input {
	users := func(x *resourcev1.ResourceClaim, enqueue func(object.Key)) {
		for _, p := range c.pods.By(byClaim, x.Namespace+"/"+x.Name) {
			enqueue(object.KeyOf(p))
		}
	}
	return []reconcile.Input{
		reconcile.On(c.pods, func(old, new *corev1.Pod, enqueue func(object.Key)) {
			switch {
			case new == nil:
				c.announce(object.KeyOf(old), false)
			case (len(new.Spec.ResourceClaims) > 0 || new.Status.ExtendedResourceClaimStatus != nil) && new.Spec.NodeName != "" && (old == nil || old.Spec.NodeName == ""):
				enqueue(object.KeyOf(new))
			}
		}),
		reconcile.On(c.claims, func(old, new *resourcev1.ResourceClaim, enqueue func(object.Key)) {
			if new != nil && (old == nil || (old.Status.Allocation == nil) != (new.Status.Allocation == nil)) {
				users(new, enqueue)
			}
		}),
		reconcile.On(c.slices, func(old, new *resourcev1.ResourceSlice, enqueue func(object.Key)) {
			if !tainted(old) && !tainted(new) {
				return
			}
			s := new
			if new == nil {
				s = old
			}
			for _, x := range c.claims.By(byPool, s.Spec.Driver+"/"+s.Spec.Pool.Name) {
				users(x, enqueue)
			}
		}),
		reconcile.On(c.rules, func(old, new *resourcev1.DeviceTaintRule, enqueue func(object.Key)) {
			for x := range c.claims.Each() {
				if x.Status.Allocation == nil {
					continue
				}
				for i := range x.Status.Allocation.Devices.Results {
					r := &x.Status.Allocation.Devices.Results[i]
					if old != nil && selects(old, r) || new != nil && selects(new, r) {
						users(x, enqueue)
						break
					}
				}
			}
		}),
	}
}

func (c *taintController) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.pods.Definition().GVK().GroupKind(), Field: "condition DisruptionTarget by device taints"}}
}

// tainted tells whether some device of a slice has to be left.
func tainted(s *resourcev1.ResourceSlice) bool {
	if s != nil {
		for i := range s.Spec.Devices {
			for _, t := range s.Spec.Devices[i].Taints {
				if t.Effect == resourcev1.DeviceTaintEffectNoExecute {
					return true
				}
			}
		}
	}
	return false
}

// selects tells whether a rule is about a device that was allocated.
func selects(r *resourcev1.DeviceTaintRule, d *resourcev1.DeviceRequestAllocationResult) bool {
	s := r.Spec.DeviceSelector
	return s != nil && (s.Driver == nil || *s.Driver == d.Driver) && (s.Pool == nil || *s.Pool == d.Pool) && (s.Device == nil || *s.Device == d.Device)
}

func (c *taintController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	p, ok := c.pods.Get(key.Namespace, key.Name)
	if !ok || p.Spec.NodeName == "" || p.DeletionTimestamp != nil || podstate.Finished(p) {
		c.announce(key, false)
		return reconcile.Result{}, nil
	}
	now := time.Now()
	at, leaves, rules := c.leaves(p)
	if !leaves {
		if c.announce(key, false) {
			c.events.Eventf(p, corev1.EventTypeNormal, "DeviceTaintManagerEviction", "Cancelling deletion")
		}
		return reconcile.Result{}, nil
	}
	if wait := at.Sub(now); wait > 0 {
		c.announce(key, true)
		c.left.note(rules, 0)
		return reconcile.Result{After: wait}, nil
	}
	c.events.Eventf(p, corev1.EventTypeNormal, "DeviceTaintManagerEviction", "Marking for deletion")
	if err := podstate.Evict(ctx, w, p, "DeletionByDeviceTaintManager", "Device Taint manager: deleting due to NoExecute taint"); err != nil {
		return reconcile.Result{}, err
	}
	c.announce(key, false)
	c.left.note(rules, 1)
	return reconcile.Result{}, nil
}

// announce notes whether a pod's eviction is ahead and says whether it was.
func (c *taintController) announce(key object.Key, ahead bool) (was bool) {
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

// leaves tells whether and when a pod must leave its devices, and for which rules
// among others.
func (c *taintController) leaves(p *corev1.Pod) (at time.Time, leaves bool, rules []*resourcev1.DeviceTaintRule) {
	for name := range resourceclaim.PodClaims(p) {
		x, ok := c.claims.Get(p.Namespace, name)
		if !ok || x.Status.Allocation == nil || !resourceclaim.IsReservedForPod(p, x, false) {
			continue
		}
		for i := range x.Status.Allocation.Devices.Results {
			r := &x.Status.Allocation.Devices.Results[i]
			for t, rule := range c.taints(r) {
				when, ends := endOf(t, r.Tolerations)
				if !ends {
					continue
				}
				if !leaves || when.Before(at) {
					at, leaves = when, true
				}
				if rule != nil && !slices.Contains(rules, rule) {
					rules = append(rules, rule)
				}
			}
		}
	}
	return at, leaves, rules
}

// taints are those of a device that pods have to leave for, with the rule that
// some come from.
func (c *taintController) taints(d *resourcev1.DeviceRequestAllocationResult) iter.Seq2[*resourcev1.DeviceTaint, *resourcev1.DeviceTaintRule] {
	return func(yield func(*resourcev1.DeviceTaint, *resourcev1.DeviceTaintRule) bool) {
		for _, s := range c.slices.By(bySlice, d.Driver+"/"+d.Pool) {
			for i := range s.Spec.Devices {
				if s.Spec.Devices[i].Name != d.Device {
					continue
				}
				for j := range s.Spec.Devices[i].Taints {
					if !yield(&s.Spec.Devices[i].Taints[j], nil) {
						return
					}
				}
			}
		}
		for r := range c.rules.Each() {
			if selects(r, d) && !yield(&r.Spec.Taint, r) {
				return
			}
		}
	}
}

// endOf tells when a taint is tolerated no longer; ends is false for one that is
// tolerated for ever, or does not make anybody leave. Of several tolerations that
// match, one for ever settles it, else the shortest counts.
func endOf(t *resourcev1.DeviceTaint, tolerations []resourcev1.DeviceToleration) (at time.Time, ends bool) {
	if t.Effect != resourcev1.DeviceTaintEffectNoExecute {
		return time.Time{}, false
	}
	if t.TimeAdded != nil {
		at = t.TimeAdded.Time
	}
	least := int64(-1)
	for i := range tolerations {
		x := &tolerations[i]
		switch {
		case x.Effect != resourcev1.DeviceTaintEffectNoExecute || !resourceclaim.ToleratesTaint(*x, *t): // upstream: one for all effects does not count
		case x.TolerationSeconds == nil:
			return time.Time{}, false
		case least < 0 || *x.TolerationSeconds < least:
			least = max(0, *x.TolerationSeconds)
		}
	}
	return at.Add(time.Duration(max(0, least)) * time.Second), true
}
