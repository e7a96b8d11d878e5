package plugins

import (
	"context"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	devicecel "k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"

	_ "sagong/kinds/expression" // bounds the quantities of selectors
	"sagong/object"
	"sagong/reconcile"
	"sagong/scheduler/state"
)

// Devices is what the scheduler knows of dynamic resources: what drivers offer,
// what claims have, and what was promised to claims whose allocation is not
// written or not seen yet. It belongs to the scheduler's goroutine, but for what
// mu guards.
//
// A device that one node alone can reach changes the verdicts about that node
// only, which is touched. Whatever else changes has all plans made anew that
// concern devices: see version.
type Devices struct {
	deps    Deps
	claims  *reconcile.View[*resourcev1.ResourceClaim] // nil in tests
	slices  *reconcile.View[*resourcev1.ResourceSlice]
	classes *reconcile.View[*resourcev1.DeviceClass]
	rules   *reconcile.View[*resourcev1.DeviceTaintRule]
	started bool

	state   *state.State // nil before a class asked
	version uint64
	cel     *devicecel.Cache

	known   map[state.Claim]*resourcev1.ResourceClaim
	changes map[types.UID]uint64 // by claim: how often it changed
	named   map[string]*resourcev1.DeviceClass
	// resources are those that classes stand for; mapping changes with them.
	resources map[corev1.ResourceName]*resourcev1.DeviceClass
	mapping   uint64
	specials  map[types.UID][]state.Claim // by pod: those made for its extended resources
	taints    map[string]*resourcev1.DeviceTaintRule
	offered   map[string]*resourcev1.ResourceSlice // by name, as the drivers wrote them
	pools     map[pool]*offer
	onNode    map[string]map[pool]bool // pools by node that alone can reach some of their slices
	shared    map[pool]bool            // pools with slices for more than one node

	// taken is by claim what it has or was promised; used adds that up.
	taken   map[types.UID]*resourcev1.AllocationResult
	flights map[types.UID]*flight
	used    structured.AllocatedState

	mu       sync.Mutex
	reserved map[types.UID][]*reservation // by pod
	waiters  map[state.Claim]map[chan<- struct{}]bool
	clearing sync.WaitGroup
}

// pool names devices that one driver manages together.
type pool struct{ driver, name string }

// offer is a pool's slices by name, with the taints that rules add.
type offer struct {
	slices map[string]*resourcev1.ResourceSlice
	node   string // that alone can reach the pool; "" for none
}

// flight is an allocation on its way to the API.
type flight struct {
	allocation *resourcev1.AllocationResult
	written    object.Revision // of the claim; 0 before
}

// reservation is a claim that a pod on its way to a node will use.
type reservation struct {
	key        state.Claim
	uid        types.UID
	allocation *resourcev1.AllocationResult // to be written; nil when the claim has one
	flight     *flight
	wrote      bool // something, to be taken back if the pod is not bound; mu

	// Of a claim for the pod's extended resources: what it is to be, and what
	// each container gets of it. Until it is made, key has no name.
	make     *resourcev1.ResourceClaim
	mappings []corev1.ContainerExtendedResourceRequest
}

// NewDevices follows the hub's objects, if there is a hub.
func NewDevices(d Deps) *Devices {
	v := &Devices{
		deps: d, cel: devicecel.NewCache(100, selectors), known: map[state.Claim]*resourcev1.ResourceClaim{}, changes: map[types.UID]uint64{}, named: map[string]*resourcev1.DeviceClass{}, specials: map[types.UID][]state.Claim{},
		taints: map[string]*resourcev1.DeviceTaintRule{}, offered: map[string]*resourcev1.ResourceSlice{}, pools: map[pool]*offer{},
		onNode: map[string]map[pool]bool{}, shared: map[pool]bool{}, taken: map[types.UID]*resourcev1.AllocationResult{}, flights: map[types.UID]*flight{},
		used: structured.AllocatedState{
			AllocatedDevices: sets.New[structured.DeviceID](), AllocatedSharedDeviceIDs: sets.New[structured.SharedDeviceID](),
			AggregatedCapacity: structured.NewConsumedCapacityCollection(),
		},
		reserved: map[types.UID][]*reservation{}, waiters: map[state.Claim]map[chan<- struct{}]bool{},
	}
	if d.Hub != nil {
		v.claims, v.slices = reconcile.ViewOf[*resourcev1.ResourceClaim](d.Hub), reconcile.ViewOf[*resourcev1.ResourceSlice](d.Hub)
		v.classes, v.rules = reconcile.ViewOf[*resourcev1.DeviceClass](d.Hub), reconcile.ViewOf[*resourcev1.DeviceTaintRule](d.Hub)
	}
	return v
}

// selectors and features are what Kubernetes has on by default.
var (
	selectors = devicecel.Features{EnableConsumableCapacity: true}
	features  = structured.Features{
		AdminAccess: true, ConsumableCapacity: true, DeviceBindingAndStatus: true, DeviceTaints: true, FractionalCapacityRange: true,
		PartitionableDevices: true, PrioritizedList: true,
	}
)

// start waits for the views and subscribes to them, for the first of the
// profiles that ask.
func (d *Devices) start(ctx context.Context) (stop func(), err error) {
	if d.started || d.claims == nil {
		return func() {}, nil
	}
	d.started = true
	for _, synced := range []func(context.Context) error{d.claims.Synced, d.slices.Synced, d.classes.Synced, d.rules.Synced} {
		if err := synced(ctx); err != nil {
			return nil, err
		}
	}
	stops := []func(){
		d.classes.OnChange(func(old, new *resourcev1.DeviceClass) { d.deps.Post(func() { d.ClassChanged(old, new) }) }),
		d.rules.OnChange(func(old, new *resourcev1.DeviceTaintRule) { d.deps.Post(func() { d.RuleChanged(old, new) }) }),
		d.slices.OnChange(func(old, new *resourcev1.ResourceSlice) { d.deps.Post(func() { d.SliceChanged(old, new) }) }),
		d.claims.OnChange(func(old, new *resourcev1.ResourceClaim) {
			d.deps.Post(func() { d.ClaimChanged(old, new) })
			d.tell(old, new)
		}),
	}
	return func() {
		for _, s := range stops {
			s()
		}
		d.clearing.Wait()
	}, nil
}

// tell wakes the pods that wait for a claim's devices before they are bound.
func (d *Devices) tell(old, new *resourcev1.ResourceClaim) {
	if new == nil {
		new = old
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for w := range d.waiters[state.Claim{Namespace: new.Namespace, Name: new.Name}] {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

func (d *Devices) changed() {
	if d.deps.Changed != nil {
		d.deps.Changed(ClaimChanged)
	}
}

// ClassChanged notes a device class: old is nil for one that appears, new for
// one that is gone, as with the following.
func (d *Devices) ClassChanged(old, new *resourcev1.DeviceClass) {
	if new == nil {
		delete(d.named, old.Name)
	} else {
		d.named[new.Name] = new
	}
	d.version++
	if d.mapResources() {
		d.mapping++
		if d.deps.Changed != nil {
			d.deps.Changed(ResourceMapped)
		}
	}
	d.changed()
}

// List implements structured.DeviceClassLister.
func (d *Devices) List() ([]*resourcev1.DeviceClass, error) {
	return slices.Collect(maps.Values(d.named)), nil
}

// Get implements structured.DeviceClassLister.
func (d *Devices) Get(name string) (*resourcev1.DeviceClass, error) {
	if c := d.named[name]; c != nil {
		return c, nil
	}
	return nil, apierrors.NewNotFound(resourcev1.Resource("deviceclass"), name)
}

// RuleChanged notes a rule that taints devices.
func (d *Devices) RuleChanged(old, new *resourcev1.DeviceTaintRule) {
	if new == nil {
		delete(d.taints, old.Name)
	} else {
		d.taints[new.Name] = new
	}
	for _, o := range d.pools {
		for name := range o.slices {
			o.slices[name] = d.tainted(d.offered[name])
		}
	}
	d.version++
	d.changed()
}

// tainted is a slice with the taints that rules add to its devices.
func (d *Devices) tainted(s *resourcev1.ResourceSlice) *resourcev1.ResourceSlice {
	copied := false
	for _, name := range slices.Sorted(maps.Keys(d.taints)) {
		r := &d.taints[name].Spec
		for i := range s.Spec.Devices {
			if !Taints(r.DeviceSelector, s.Spec.Driver, s.Spec.Pool.Name, s.Spec.Devices[i].Name) {
				continue
			}
			if !copied {
				s, copied = s.DeepCopy(), true
			}
			s.Spec.Devices[i].Taints = append(s.Spec.Devices[i].Taints, r.Taint)
		}
	}
	return s
}

// Taints tells whether a rule's selector is about a device.
func Taints(s *resourcev1.DeviceTaintSelector, driver, pool, device string) bool {
	return s != nil && (s.Driver == nil || *s.Driver == driver) && (s.Pool == nil || *s.Pool == pool) && (s.Device == nil || *s.Device == device)
}

// SliceChanged notes what a driver offers.
func (d *Devices) SliceChanged(old, new *resourcev1.ResourceSlice) {
	for _, s := range []*resourcev1.ResourceSlice{old, new} {
		if s == nil {
			continue
		}
		p := pool{s.Spec.Driver, s.Spec.Pool.Name}
		o := d.pools[p]
		if o == nil {
			o = &offer{slices: map[string]*resourcev1.ResourceSlice{}}
			d.pools[p] = o
		}
		d.leave(p, o)
		if s == old {
			delete(o.slices, s.Name)
			delete(d.offered, s.Name)
		} else {
			o.slices[s.Name] = d.tainted(s)
			d.offered[s.Name] = s
		}
		if len(o.slices) == 0 {
			delete(d.pools, p)
			continue
		}
		d.enter(p, o)
	}
	d.changed()
}

// leave and enter take a pool out of the lists of who can reach it and put it
// back, around a change.
func (d *Devices) leave(p pool, o *offer) {
	d.touch(o.node)
	if o.node == "" {
		delete(d.shared, p)
	}
	for _, s := range o.slices {
		if n := s.Spec.NodeName; n != nil {
			if delete(d.onNode[*n], p); len(d.onNode[*n]) == 0 {
				delete(d.onNode, *n)
			}
		}
	}
}

func (d *Devices) enter(p pool, o *offer) {
	first := true
	for _, s := range o.slices {
		n := ""
		if s.Spec.NodeName != nil {
			n = *s.Spec.NodeName
			if d.onNode[n] == nil {
				d.onNode[n] = map[pool]bool{}
			}
			d.onNode[n][p] = true
		} else {
			d.shared[p] = true
		}
		if first {
			o.node, first = n, false
		} else if o.node != n {
			o.node = ""
		}
	}
	if o.node == "" {
		d.shared[p] = true
	}
	d.touch(o.node)
}

// touch has the verdicts about a node, or with "" about all, found anew.
func (d *Devices) touch(node string) {
	switch {
	case node == "":
		d.version++
	case d.state != nil:
		d.state.Touch(node)
	}
}

// within are the slices of all pools that a node may reach.
func (d *Devices) within(node string) (list []*resourcev1.ResourceSlice) {
	add := func(p pool) {
		for _, s := range d.pools[p].slices {
			list = append(list, s)
		}
	}
	for p := range d.onNode[node] {
		add(p)
	}
	for p := range d.shared {
		if !d.onNode[node][p] {
			add(p)
		}
	}
	return list
}

// ClaimChanged notes a claim.
func (d *Devices) ClaimChanged(old, new *resourcev1.ResourceClaim) {
	c := new
	if new == nil {
		c = old
	}
	key := state.Claim{Namespace: c.Namespace, Name: c.Name}
	if special(c) {
		d.noteSpecial(ownerOf(c), key, new != nil)
	}
	if new == nil {
		delete(d.known, key)
		delete(d.changes, c.UID)
		delete(d.flights, c.UID)
		d.take(c.UID, nil)
	} else {
		d.known[key] = new
		d.changes[new.UID]++
		d.settle(new)
	}
	// What is of one pod alone concerns no plan but its own, whose class says
	// what state it is in.
	if ownerOf(c) == "" && (old == nil || new == nil || (old.Status.Allocation == nil) != (new.Status.Allocation == nil) ||
		(old.DeletionTimestamp == nil) != (new.DeletionTimestamp == nil) || len(new.Status.Devices)+len(old.Status.Devices) > 0) {
		d.version++
	}
	d.changed()
}

// settle counts what a claim has, unless more was promised to it.
func (d *Devices) settle(c *resourcev1.ResourceClaim) {
	if f := d.flights[c.UID]; f != nil {
		if c.Status.Allocation == nil && (f.written == 0 || object.RevisionOf(c) < f.written) {
			return
		}
		delete(d.flights, c.UID)
	}
	d.take(c.UID, c.Status.Allocation)
}

// take counts the devices of a claim's allocation instead of those before.
func (d *Devices) take(claim types.UID, a *resourcev1.AllocationResult) {
	if was := d.taken[claim]; was != nil {
		d.count(was, false)
		delete(d.taken, claim)
	}
	if a != nil {
		d.taken[claim] = a
		d.count(a, true)
	}
}

func (d *Devices) count(a *resourcev1.AllocationResult, add bool) {
	for i := range a.Devices.Results {
		r := &a.Devices.Results[i]
		if r.AdminAccess != nil && *r.AdminAccess {
			continue // it keeps nobody else from the device
		}
		id := structured.MakeDeviceID(r.Driver, r.Pool, r.Device)
		switch {
		case r.ShareID != nil && add:
			d.used.AllocatedSharedDeviceIDs.Insert(structured.MakeSharedDeviceID(id, r.ShareID))
			d.used.AggregatedCapacity.Insert(structured.NewDeviceConsumedCapacity(id, r.ConsumedCapacity))
		case r.ShareID != nil:
			d.used.AllocatedSharedDeviceIDs.Delete(structured.MakeSharedDeviceID(id, r.ShareID))
			d.used.AggregatedCapacity.Remove(structured.NewDeviceConsumedCapacity(id, r.ConsumedCapacity))
		case add:
			d.used.AllocatedDevices.Insert(id)
		default:
			d.used.AllocatedDevices.Delete(id)
		}
		node := ""
		if o := d.pools[pool{r.Driver, r.Pool}]; o != nil {
			node = o.node
		}
		d.touch(node)
	}
}

// Promised is what a claim has, or will have once it is written; nil for nothing.
func (d *Devices) Promised(claim types.UID) *resourcev1.AllocationResult { return d.taken[claim] }

// allocate finds devices for claims on a node.
func (d *Devices) allocate(ctx context.Context, n *corev1.Node, claims []*resourcev1.ResourceClaim) ([]resourcev1.AllocationResult, error) {
	a, err := structured.NewAllocator(ctx, features, d.used, d, d.within(n.Name), d.cel)
	if err != nil {
		return nil, err
	}
	return a.Allocate(ctx, n, claims)
}

// ownerOf is the UID of the pod that a claim was made for, "" for none.
func ownerOf(c *resourcev1.ResourceClaim) types.UID {
	for i := range c.OwnerReferences {
		if o := &c.OwnerReferences[i]; o.Controller != nil && *o.Controller && o.Kind == "Pod" && o.APIVersion == "v1" {
			return o.UID
		}
	}
	return ""
}
