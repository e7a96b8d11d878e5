package simulate

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	kubelet "sagong/kubelet/pod"
	"sagong/object"
)

// node is one simulated agent.
type node struct {
	name string
	ip   string
	pods netip.Prefix

	// What the API holds, as last seen. Writers and the watch replace them.
	object *corev1.Node
	lease  *coordinationv1.Lease

	// Asked for by the outage of the configuration and by the annotation; down
	// is what holds.
	killed, told, down string

	renewAt, reportAt time.Time
	tries             int
	ready             bool

	// What its pods use.
	held   map[*pod]struct{}
	used   [resources]int64
	taken  []uint64 // a bit for each pod address
	nextIP uint32
}

// The resources that pods are admitted by.
const (
	cpu = iota // thousandths
	memory
	pods
	resources
)

func (f *Fleet) nodeName(i int) string { return f.cfg.Prefix + "-" + strconv.Itoa(i) }

func (f *Fleet) newNode(i int) *node {
	bits := f.cfg.podBits()
	return &node{
		name: f.nodeName(i), ip: nth(f.cfg.NodeRange, uint32(i)).String(),
		pods:  netip.PrefixFrom(nth(f.cfg.PodRange, uint32(i)<<bits), 32-bits),
		taken: make([]uint64, 1<<bits/64), nextIP: 1, held: map[*pod]struct{}{},
	}
}

// index is the node's number in the fleet.
func (f *Fleet) index(n *node) int {
	i, _ := strconv.Atoi(n.name[len(f.cfg.Prefix)+1:])
	return i
}

func (f *Fleet) labels(n *node) map[string]string {
	l := map[string]string{
		corev1.LabelHostname: n.name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
		"beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64", LabelFleet: f.cfg.Prefix,
	}
	if f.cfg.Zones > 0 {
		l[corev1.LabelTopologyZone] = "zone-" + strconv.Itoa(f.index(n)%f.cfg.Zones)
		l[corev1.LabelTopologyRegion] = "region-0"
	}
	maps.Copy(l, f.cfg.Labels)
	return l
}

// serveNode does what is due for a node: it registers, renews its lease, reports
// its status. A failure is tried again soon.
func (f *Fleet) serveNode(ctx context.Context, n *node) {
	f.mu.Lock()
	down, registered := n.down != "", n.object != nil
	now := time.Now()
	renew, report := !now.Before(n.renewAt), !now.Before(n.reportAt)
	f.mu.Unlock()
	if down {
		return
	}
	err := error(nil)
	if !registered {
		err = f.register(ctx, n)
	}
	if err == nil && renew {
		err = f.renew(ctx, n)
	}
	if err == nil && registered && report {
		err = f.report(ctx, n)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	wait := min(time.Until(n.renewAt), time.Until(n.reportAt))
	switch {
	case err == nil:
		n.tries = 0
		if !n.ready {
			n.ready = true
			if f.left.Add(-1) == 0 {
				close(f.ready)
			}
		}
	case ctx.Err() != nil:
		return
	case apierrors.IsConflict(err):
		f.count(countConflicts)
		wait = 0 // what was read anew is newer
	default:
		f.count(countErrors)
		n.tries++
		wait = min(time.Duration(n.tries)*200*time.Millisecond, 5*time.Second)
		if n.tries == 5 {
			f.cfg.Log.Warn("cannot keep a node alive, trying again", "node", n.name, "err", err)
		}
	}
	f.timers.Set(n, now.Add(max(wait, 0)), func() { f.nodeWork.Add(n) })
}

// spread is an interval, made shorter at random, so that a fleet that began at
// once does not write at once for ever. f.mu is held.
func (f *Fleet) spread(d time.Duration) time.Duration {
	return d - time.Duration(f.rand.Int64N(int64(d)/10+1))
}

// register makes the Node, or takes one over that is there.
func (f *Fleet) register(ctx context.Context, n *node) error {
	fresh := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: f.labels(n)},
		Spec: corev1.NodeSpec{
			Taints: slices.Clone(f.cfg.Taints), PodCIDR: n.pods.String(), PodCIDRs: []string{n.pods.String()},
			ProviderID: ProviderScheme + n.name,
		},
	}
	f.fillStatus(n, &fresh.Status)
	made, err := client.Create(ctx, f.cfg.Client, fresh)
	f.count(countNodeWrites)
	if apierrors.IsAlreadyExists(err) {
		made, err = client.Get[*corev1.Node](ctx, f.cfg.Client, "", n.name)
		if err == nil && made.Labels[LabelFleet] != f.cfg.Prefix {
			return fmt.Errorf("a node %q is there already and belongs to no simulated fleet", n.name)
		}
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seeNode(n, made)
	// The first renewals and reports are spread over their whole interval.
	n.reportAt = time.Now().Add(time.Duration(f.rand.Int64N(int64(f.cfg.StatusInterval))))
	if made.Status.NodeInfo.KubeletVersion != f.cfg.Version || !nodeReady(made) {
		n.reportAt = time.Now()
	}
	return nil
}

func nodeReady(n *corev1.Node) bool {
	i := slices.IndexFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
	return i >= 0 && n.Status.Conditions[i].Status == corev1.ConditionTrue
}

// renew writes the node's lease.
func (f *Fleet) renew(ctx context.Context, n *node) error {
	f.mu.Lock()
	held := n.lease
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: n.name, UID: n.object.UID}
	f.mu.Unlock()
	now, seconds := metav1.NewMicroTime(time.Now()), int32(f.cfg.LeaseDuration/time.Second)
	made := held == nil
	var err error
	if held == nil {
		held, err = client.Create(ctx, f.cfg.Client, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: n.name, OwnerReferences: []metav1.OwnerReference{owner}},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &n.name, LeaseDurationSeconds: &seconds, RenewTime: &now},
		})
		if apierrors.IsAlreadyExists(err) {
			made = false
			held, err = client.Get[*coordinationv1.Lease](ctx, f.cfg.Client, corev1.NamespaceNodeLease, n.name)
		}
	} else {
		l := held.DeepCopy()
		l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds, l.Spec.RenewTime = &n.name, &seconds, &now
		held, err = client.Update(ctx, f.cfg.Client, l)
	}
	f.count(countNodeWrites)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		n.lease = nil // read it anew
		return err
	}
	every := f.cfg.LeaseDuration / 4
	wait := f.spread(every)
	switch {
	case made:
		wait = time.Duration(f.rand.Int64N(int64(every)))
	case n.lease == nil:
		wait = 0 // an earlier agent's was found
	}
	n.lease, n.renewAt = held, time.Now().Add(wait)
	return nil
}

// report writes the node's status.
func (f *Fleet) report(ctx context.Context, n *node) error {
	f.mu.Lock()
	o := n.object.DeepCopy()
	f.mu.Unlock()
	f.fillStatus(n, &o.Status)
	written, err := client.UpdateStatus(ctx, f.cfg.Client, o)
	f.count(countNodeWrites)
	if apierrors.IsConflict(err) {
		if o, getErr := client.Get[*corev1.Node](ctx, f.cfg.Client, "", n.name); getErr == nil {
			f.mu.Lock()
			f.seeNode(n, o)
			f.mu.Unlock()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if apierrors.IsNotFound(err) {
		// Somebody deleted it: a node that lives registers again.
		n.object, n.lease, n.renewAt = nil, nil, time.Time{}
	}
	if err != nil {
		return err
	}
	f.seeNode(n, written)
	n.reportAt = time.Now().Add(f.spread(f.cfg.StatusInterval))
	return nil
}

// seeNode takes a newer version of the Node. f.mu is held.
func (f *Fleet) seeNode(n *node, o *corev1.Node) {
	if n.object != nil && n.object.UID == o.UID && object.RevisionOf(n.object) >= object.RevisionOf(o) {
		return
	}
	n.object = o
	told := o.Annotations[AnnotationState]
	if told != n.told && told != "" && told != StateDown && told != StateCutOff {
		f.cfg.Log.Warn("a node is told to be in a state that there is not, and is as others are", "node", n.name, "state", told)
	}
	n.told = told
	f.settleState(n)
}

// declared are the features that simulated nodes have: pods take what resources
// their spec says, whenever it changes.
var declared = kubelet.Declare("InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers")

// fillStatus says what the node says of itself; conditions and fields of others
// stay.
func (f *Fleet) fillStatus(n *node, s *corev1.NodeStatus) {
	s.Capacity, s.Allocatable = f.cfg.Capacity.DeepCopy(), f.cfg.Capacity.DeepCopy()
	s.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: n.ip}, {Type: corev1.NodeHostName, Address: n.name}}
	s.NodeInfo = corev1.NodeSystemInfo{
		MachineID: n.name, SystemUUID: n.name, BootID: n.name, KernelVersion: "simulated", OSImage: "simulated",
		ContainerRuntimeVersion: "simulate://0", KubeletVersion: f.cfg.Version, OperatingSystem: "linux", Architecture: "amd64",
	}
	s.DeclaredFeatures = declared.Names
	now := metav1.Now().Rfc3339Copy()
	set := func(t corev1.NodeConditionType, status corev1.ConditionStatus, reason, message string) {
		c := corev1.NodeCondition{Type: t, Status: status, Reason: reason, Message: message, LastHeartbeatTime: now, LastTransitionTime: now}
		i := slices.IndexFunc(s.Conditions, func(c corev1.NodeCondition) bool { return c.Type == t })
		if i < 0 {
			s.Conditions = append(s.Conditions, c)
			return
		}
		if s.Conditions[i].Status == status {
			c.LastTransitionTime = s.Conditions[i].LastTransitionTime
		}
		s.Conditions[i] = c
	}
	set(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory", "kubelet has sufficient memory available")
	set(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure")
	set(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID", "kubelet has sufficient PID available")
	set(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status")
}

// settleState lets a node go down or come back, as the configuration and its
// annotation say. f.mu is held.
func (f *Fleet) settleState(n *node) {
	want := n.told
	if want == "" {
		want = n.killed
	}
	if want != "" && want != StateCutOff {
		want = StateDown
	}
	was := n.down
	if n.down = want; was == want {
		return
	}
	if want == StateDown {
		for p := range n.held {
			f.losePod(p)
		}
	}
	if want == "" {
		n.renewAt, n.reportAt = time.Time{}, time.Time{}
		f.nodeWork.Add(n)
		for p := range n.held {
			f.resume(p)
		}
	}
	f.cfg.Log.Info("node changes state", "node", n.name, "state", want)
}

// nodeFollower keeps the fleet's Nodes as the API has them.
type nodeFollower struct{ f *Fleet }

func (w nodeFollower) Replace(l client.List) {
	f := w.f
	f.mu.Lock()
	defer f.mu.Unlock()
	present := map[string]bool{}
	for _, o := range l.Items {
		present[o.GetName()] = true
		w.see(o)
	}
	for name, n := range f.nodes {
		if !present[name] && n.object != nil && object.RevisionOf(n.object) <= l.Revision {
			w.lose(n)
		}
	}
}

func (w nodeFollower) Apply(events []client.Event) {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	for _, e := range events {
		switch {
		case e.Object == nil:
		case e.Type != client.Deleted:
			w.see(e.Object)
		default:
			if n := w.f.nodes[e.Object.GetName()]; n != nil && n.object != nil && n.object.UID == e.Object.GetUID() {
				w.lose(n)
			}
		}
	}
}

func (w nodeFollower) see(o object.Object) {
	if n := w.f.nodes[o.GetName()]; n != nil && n.object != nil {
		w.f.seeNode(n, o.(*corev1.Node))
	}
}

// lose forgets a Node that was deleted: it is registered again when its agent
// next looks, within the interval of its lease.
func (w nodeFollower) lose(n *node) { n.object, n.lease, n.told = nil, nil, "" }

// capacity is that of the resources pods are admitted by.
func (f *Fleet) capacity() (c [resources]int64) {
	value := func(name corev1.ResourceName) resource.Quantity { return f.cfg.Capacity[name] }
	q := value(corev1.ResourceCPU)
	c[cpu] = q.MilliValue()
	q = value(corev1.ResourceMemory)
	c[memory] = q.Value()
	q = value(corev1.ResourcePods)
	c[pods] = q.Value()
	return c
}

// address takes a free pod address of the node; the empty one when there is
// none.
func (n *node) address() (ip netip.Addr, slot uint32) {
	size := uint32(len(n.taken) * 64)
	for range size {
		slot := n.nextIP
		if n.nextIP++; n.nextIP >= size-1 {
			n.nextIP = 1
		}
		if n.taken[slot/64]&(1<<(slot%64)) == 0 {
			n.taken[slot/64] |= 1 << (slot % 64)
			return nth(n.pods, slot), slot
		}
	}
	return netip.Addr{}, 0
}

func (n *node) release(slot uint32) { n.taken[slot/64] &^= 1 << (slot % 64) }

// claim takes an address that a pod of an earlier fleet has.
func (n *node) claim(ip string) (slot uint32, ok bool) {
	a, err := netip.ParseAddr(ip)
	if err != nil || !n.pods.Contains(a) {
		return 0, false
	}
	b := a.As4()
	base := n.pods.Addr().As4()
	slot = uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	slot -= uint32(base[0])<<24 | uint32(base[1])<<16 | uint32(base[2])<<8 | uint32(base[3])
	n.taken[slot/64] |= 1 << (slot % 64)
	return slot, true
}
