package plugins

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	"k8s.io/dynamic-resource-allocation/structured"

	"sagong/scheduler/state"
)

// DynamicResources sends pods to nodes where the devices that their claims ask
// for can be had, and allocates them.
type DynamicResources struct {
	*Devices
	// FilterTimeout bounds the search for devices on one node, BindingTimeout how
	// long a pod waits for its devices to be ready before it is bound; zero for
	// the first is no bound.
	FilterTimeout, BindingTimeout time.Duration
}

// Name implements Plugin.
func (DynamicResources) Name() string { return "DynamicResources" }

// Helps implements Plugin.
func (DynamicResources) Helps() Change { return ClaimChanged | NodeChanged | PodChanged }

// Start implements Starter.
func (r DynamicResources) Start(ctx context.Context) (func(), error) { return r.start(ctx) }

// Waits tells whether a pod's claims are still to be made: it is not tried
// before its status names them.
func Waits(p *corev1.Pod) bool {
	for i := range p.Spec.ResourceClaims {
		if _, _, err := resourceclaim.Name(p, &p.Spec.ResourceClaims[i]); errors.Is(err, resourceclaim.ErrClaimNotFound) {
			return true
		}
	}
	return false
}

// ClassKey is equal for pods whose claims place alike: claims of a pod's own
// that have nothing yet by what they ask for, others by what they are.
func (d *Devices) ClassKey(p *corev1.Pod) string {
	if len(d.specials[p.UID]) > 0 {
		return string(p.UID) // what an earlier attempt left concerns this pod alone
	}
	var b strings.Builder
	for i := range p.Spec.ResourceClaims {
		name, own, err := resourceclaim.Name(p, &p.Spec.ResourceClaims[i])
		switch {
		case err != nil:
			return string(p.UID)
		case name == nil:
			b.WriteString("none\x00")
		case !own:
			b.WriteString("name\x00" + *name + "\x00")
		default:
			c := d.known[state.Claim{Namespace: p.Namespace, Name: *name}]
			if c == nil || c.Status.Allocation != nil || c.DeletionTimestamp != nil || d.flights[c.UID] != nil || ownerOf(c) != p.UID {
				return string(p.UID)
			}
			spec, _ := c.Spec.Marshal()
			fmt.Fprintf(&b, "spec %d\x00", len(spec))
			b.Write(spec)
		}
	}
	return b.String()
}

// claimsOf are the claims of a pod, or why it cannot be placed.
func (d *Devices) claimsOf(p *corev1.Pod) ([]*resourcev1.ResourceClaim, *No) {
	var list []*resourcev1.ResourceClaim
	for i := range p.Spec.ResourceClaims {
		name, own, err := resourceclaim.Name(p, &p.Spec.ResourceClaims[i])
		if err != nil {
			return nil, RefuseFinally(err.Error())
		}
		if name == nil {
			continue
		}
		c := d.known[state.Claim{Namespace: p.Namespace, Name: *name}]
		if c == nil {
			return nil, RefuseFinally(apierrors.NewNotFound(resourcev1.Resource("resourceclaim"), *name).Error())
		}
		if c.DeletionTimestamp != nil {
			return nil, RefuseFinally(fmt.Sprintf("resourceclaim %q is being deleted", c.Name))
		}
		if own {
			if err := resourceclaim.IsForPod(p, c, false); err != nil {
				return nil, RefuseFinally(err.Error())
			}
		}
		list = append(list, c)
	}
	return list, nil
}

// deviceFilter judges nodes for the claims of a class.
type deviceFilter struct {
	r         DynamicResources
	pod       *corev1.Pod // one of the class
	claims    []*resourcev1.ResourceClaim
	allocated []*allocatedClaim
	wanted    []*resourcev1.ResourceClaim
	extended  *extended       // nil when no resource that a class stands for is asked for
	tied      bool            // to the state of these very claims
	ranked    bool            // some request has alternatives
	ranks     map[int32]int64 // by slot: how early in their lists the alternatives stand
}

type allocatedClaim struct {
	claim *resourcev1.ResourceClaim
	on    *nodeaffinity.NodeSelector // nil for every node
}

// Begin implements PreFilter.
func (r DynamicResources) Begin(c *Class, s *state.State) (NodeFilter, *No) {
	r.state = s
	c.devices = nil
	claims, no := r.claimsOf(c.Pod)
	if no != nil {
		return nil, no
	}
	x := r.extendedOf(c)
	if len(claims) == 0 && x == nil {
		for name := range c.Hard.Other {
			if mayBeDevices(name) {
				return mapped{r.Devices}, nil
			}
		}
		return nil, nil
	}
	f := &deviceFilter{r: r, pod: c.Pod, claims: claims, extended: x, ranks: map[int32]int64{}, tied: r.ClassKey(c.Pod) == string(c.Pod.UID)}
	for _, x := range claims {
		if x.Status.Allocation != nil {
			if len(x.Status.ReservedFor) >= resourcev1.ResourceClaimReservedForMaxSize && !resourceclaim.IsReservedForPod(c.Pod, x, false) {
				return nil, RefuseFinally("resourceclaim in use")
			}
			a := &allocatedClaim{claim: x}
			if sel := x.Status.Allocation.NodeSelector; sel != nil {
				on, err := nodeaffinity.NewNodeSelector(sel)
				if err != nil {
					return nil, RefuseFinally(err.Error())
				}
				a.on = on
			}
			f.allocated = append(f.allocated, a)
			continue
		}
		if r.flights[x.UID] != nil {
			return nil, RefuseFinally(fmt.Sprintf("resource claim %s/%s is in the process of being allocated", x.Namespace, x.Name))
		}
		for i := range x.Spec.Devices.Requests {
			q := &x.Spec.Devices.Requests[i]
			if q.Exactly != nil {
				if no := r.classExists(q.Name, q.Exactly.DeviceClassName); no != nil {
					return nil, no
				}
			}
			for j := range q.FirstAvailable {
				f.ranked = true
				if no := r.classExists(q.Name+"/"+q.FirstAvailable[j].Name, q.FirstAvailable[j].DeviceClassName); no != nil {
					return nil, no
				}
			}
		}
		f.wanted = append(f.wanted, x)
	}
	c.devices = f
	return f, nil
}

func (d *Devices) classExists(request, class string) *No {
	if d.named[class] == nil {
		return RefuseFinally(fmt.Sprintf("request %s: device class %s does not exist", request, class))
	}
	return nil
}

// Version implements NodeFilter.
func (f *deviceFilter) Version() uint64 {
	v := f.r.version
	if f.tied {
		for _, c := range f.claims {
			v += f.r.changes[c.UID]
		}
	}
	if f.extended != nil && f.extended.stale && len(f.r.specials[f.pod.UID]) == 0 {
		v++ // what was left over is gone
	}
	return v
}

var (
	cannotAllocate = RefuseFinally("cannot allocate all claims")
	notAvailable   = RefuseFinally("resourceclaim not available on the node")
	tooSlow        = RefuseFinally("timed out trying to allocate devices")
)

// Filter implements NodeFilter. The end of pods frees no device at once, so no
// refusal is one that pre-emption could turn round.
func (f *deviceFilter) Filter(n *state.Node) *No {
	wanted := f.wanted
	if f.extended != nil {
		c, no := f.extended.on(f.r.Devices, f.pod, n)
		if no != nil {
			return no
		}
		if c != nil {
			wanted = append(slices.Clip(wanted), c)
		}
	}
	results, no := f.r.find(wanted, n)
	if no != nil {
		return no
	}
	for _, a := range f.allocated {
		if a.on != nil && !a.on.Match(n.Object) {
			return notAvailable
		}
		if ready, err := readyToBind(a.claim); err != nil || !ready && f.r.overdue(a.claim) {
			return notAvailable
		}
	}
	if f.ranked {
		f.ranks[int32(n.Slot)] = rankOf(wanted, results)
	}
	return nil
}

// find searches devices for claims on a node.
func (r DynamicResources) find(claims []*resourcev1.ResourceClaim, n *state.Node) ([]resourcev1.AllocationResult, *No) {
	if len(claims) == 0 {
		return nil, nil
	}
	ctx := context.Background()
	if r.FilterTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.FilterTimeout)
		defer cancel()
	}
	results, err := r.allocate(ctx, n.Object, claims)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, tooSlow
	case err != nil && !errors.Is(err, structured.ErrFailedAllocationOnNode):
		return nil, RefuseFinally("running \"DynamicResources\" filter plugin: " + err.Error())
	case err != nil:
		return nil, RefuseFinally(err.Error())
	case len(results) != len(claims):
		return nil, cannotAllocate
	}
	return results, nil
}

// rankOf adds up how early in their lists the alternatives stand that were
// chosen.
func rankOf(claims []*resourcev1.ResourceClaim, results []resourcev1.AllocationResult) (sum int64) {
	for i, c := range claims {
		chosen := map[string]bool{}
		for _, r := range results[i].Devices.Results {
			chosen[r.Request] = true
		}
		for j := range c.Spec.Devices.Requests {
			q := &c.Spec.Devices.Requests[j]
			for k := range q.FirstAvailable {
				if chosen[q.Name+"/"+q.FirstAvailable[k].Name] {
					sum += int64(resourcev1.FirstAvailableDeviceRequestMaxSize - k)
				}
			}
		}
	}
	return sum
}

// Prefers implements Relative.
func (r DynamicResources) Prefers(c *Class) bool { return c.devices != nil && c.devices.ranked }

// Score implements Relative: a node where the alternatives wanted first can be
// had is better.
func (r DynamicResources) Score(c *Class, n *state.Node) int64 { return c.devices.ranks[int32(n.Slot)] }

// Reverse implements Relative.
func (DynamicResources) Reverse() bool { return false }

// readyToBind tells whether all that the devices of a claim wait for has come
// about; an error says that it will not.
func readyToBind(c *resourcev1.ResourceClaim) (bool, error) {
	if c.Status.Allocation == nil {
		return false, nil
	}
	for i := range c.Status.Allocation.Devices.Results {
		r := &c.Status.Allocation.Devices.Results[i]
		if len(r.BindingConditions) == 0 {
			continue
		}
		var conditions []metav1.Condition
		for j := range c.Status.Devices {
			if s := &c.Status.Devices[j]; s.Device == r.Device && s.Driver == r.Driver && s.Pool == r.Pool {
				conditions = s.Conditions
			}
		}
		for _, t := range r.BindingFailureConditions {
			if x := meta.FindStatusCondition(conditions, t); x != nil && x.Status == metav1.ConditionTrue {
				return false, fmt.Errorf("claim %s binding failed: reason=%s, message=%q", c.Name, x.Reason, x.Message)
			}
		}
		for _, t := range r.BindingConditions {
			if !meta.IsStatusConditionTrue(conditions, t) {
				return false, nil
			}
		}
	}
	return true, nil
}

// overdue tells whether the devices of a claim have had their time to be ready.
func (r DynamicResources) overdue(c *resourcev1.ResourceClaim) bool {
	a := c.Status.Allocation
	return a != nil && a.AllocationTimestamp != nil && a.AllocationTimestamp.Add(r.BindingTimeout).Before(r.deps.Now())
}

// Reserve implements Reserver: it promises devices of the node to the claims of
// this very pod.
func (r DynamicResources) Reserve(c *Class, p *corev1.Pod, n *state.Node) *No {
	claims, no := r.claimsOf(p)
	if no != nil {
		return no
	}
	made, no := r.reserveExtended(c, p, n)
	if no != nil {
		return no
	}
	if len(claims) == 0 && made == nil {
		return nil
	}
	var list []*reservation
	var wanted []*resourcev1.ResourceClaim
	for _, c := range claims {
		x := &reservation{key: state.Claim{Namespace: c.Namespace, Name: c.Name}, uid: c.UID}
		list = append(list, x)
		switch {
		case r.flights[c.UID] != nil:
			return RefuseFinally(fmt.Sprintf("resource claim %s/%s is in the process of being allocated", c.Namespace, c.Name))
		case c.Status.Allocation == nil:
			wanted = append(wanted, c)
		case c.Status.Allocation.NodeSelector != nil:
			on, err := nodeaffinity.NewNodeSelector(c.Status.Allocation.NodeSelector)
			if err != nil || !on.Match(n.Object) {
				return notAvailable
			}
		}
	}
	if made != nil {
		list = append(list, made)
		wanted = append(wanted, made.make)
	}
	results, no := r.find(wanted, n)
	if no != nil {
		return no
	}
	for i, c := range wanted {
		f := &flight{allocation: &results[i]}
		r.flights[c.UID] = f
		r.take(c.UID, f.allocation)
		if ownerOf(c) == "" {
			r.version++ // others that name it must wait
		}
		for _, x := range list {
			if x.uid == c.UID {
				x.allocation, x.flight = f.allocation, f
			}
		}
	}
	r.mu.Lock()
	r.reserved[p.UID] = list
	r.mu.Unlock()
	return nil
}

// Unreserve implements Reserver.
func (r DynamicResources) Unreserve(p *corev1.Pod, _ string) {
	r.mu.Lock()
	list := r.reserved[p.UID]
	delete(r.reserved, p.UID)
	r.mu.Unlock()
	for _, x := range list {
		r.mu.Lock()
		wrote := x.wrote
		r.mu.Unlock()
		if wrote && x.make != nil {
			r.discard(p, x)
			continue
		}
		if f := x.flight; f != nil && !wrote && r.flights[x.uid] == f {
			delete(r.flights, x.uid)
			var has *resourcev1.AllocationResult
			if c := r.known[x.key]; c != nil && c.UID == x.uid {
				has = c.Status.Allocation
			}
			r.take(x.uid, has)
			r.version++
			r.changed()
		}
		if wrote {
			r.giveBack(p, x)
		}
	}
}

// Unblock implements Unblocker: a claim that only this pod uses, and whose
// devices keep it from some node, gives them back.
func (r DynamicResources) Unblock(p *corev1.Pod) string {
	claims, _ := r.claimsOf(p)
	for _, c := range claims {
		if r.flights[c.UID] == nil && c.Status.Allocation != nil && onlyFor(c, p) && r.confines(c) {
			r.giveBack(p, &reservation{key: state.Claim{Namespace: c.Namespace, Name: c.Name}, uid: c.UID, allocation: c.Status.Allocation})
			return "deallocation of ResourceClaim completed"
		}
	}
	if len(r.specials[p.UID]) > 0 && r.backs(p) {
		r.discardStale(p)
		return "deletion of ResourceClaim completed"
	}
	return ""
}

func onlyFor(c *resourcev1.ResourceClaim, p *corev1.Pod) bool {
	return len(c.Status.ReservedFor) == 0 || len(c.Status.ReservedFor) == 1 && c.Status.ReservedFor[0].UID == p.UID
}

// confines tells whether a claim's devices rule some node out.
func (r DynamicResources) confines(c *resourcev1.ResourceClaim) bool {
	if ready, err := readyToBind(c); err != nil || !ready && r.overdue(c) {
		return true
	}
	if c.Status.Allocation.NodeSelector == nil || r.state == nil {
		return false
	}
	on, err := nodeaffinity.NewNodeSelector(c.Status.Allocation.NodeSelector)
	if err != nil {
		return true
	}
	for _, n := range r.state.Nodes() {
		if !on.Match(n.Object) {
			return true
		}
	}
	return false
}
