package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/scheduler/plugins"
)

// deviceWorld adds devices to a random cluster of few, plain nodes.
type deviceWorld struct {
	*world
	facts   *deviceFacts
	devices *plugins.Devices
	rule    plugins.DynamicResources
	// admins are about, who share devices with others: by upstream they are held to
	// the counters of devices in parts, which the plain definition is not.
	admins bool
	took   map[string]map[corev1.ResourceName]int // extended resources by pod
}

func newDeviceWorld(t *testing.T, seed uint64) *deviceWorld {
	w := &deviceWorld{facts: &deviceFacts{claims: map[string]*resourcev1.ResourceClaim{}}, took: map[string]map[corev1.ResourceName]int{}}
	w.devices = plugins.NewDevices(plugins.Deps{Now: func() time.Time { return epoch }, Post: func(f func()) { f() }})
	w.world = newWorld(t, seed, func(s *plugins.Shared) { s.Devices = w.devices })
	w.s.queue.claims = w.devices.ClassKey
	rules := w.s.profiles[Name].rules
	w.rule = rules[slices.IndexFunc(rules, func(r plugins.Plugin) bool { return r.Name() == "DynamicResources" })].(plugins.DynamicResources)
	for _, c := range []string{"a", "b"} {
		class := deviceClass(c, fmt.Sprintf(`device.attributes["d"].?kind.orValue("") == %q`, c))
		if c == "a" {
			class.Spec.ExtendedResourceName = new("example.com/a")
		}
		w.devices.ClassChanged(nil, class)
	}
	for _, n := range w.plain.nodes {
		w.plug(n.Name)
	}
	w.devices.ClassChanged(nil, deviceClass("any", ""))
	w.admins = w.chance(3)
	for range 1 + w.IntN(4) {
		w.offer()
	}
	return w
}

// offer has a driver publish a pool, for one node, for those of a zone, or for
// all; some devices are parts of others.
func (w *deviceWorld) offer() {
	w.n++
	s := &resourcev1.ResourceSlice{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("s", w.n)},
		Spec:       resourcev1.ResourceSliceSpec{Driver: "d", Pool: resourcev1.ResourcePool{Name: fmt.Sprint("pool", w.n), ResourceSliceCount: 1}},
	}
	switch {
	case w.chance(4):
		s.Spec.AllNodes = new(true)
	case w.chance(3):
		s.Spec.NodeSelector = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{w.pick("1", "2")}}},
		}}}
	default:
		s.Spec.NodeName = new(fmt.Sprint("n", 1+w.IntN(3)))
	}
	parts := !w.admins && w.chance(3)
	for i := range 1 + w.IntN(3) {
		d := resourcev1.Device{Name: fmt.Sprint("d", i), Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"kind": {StringValue: new(w.pick("a", "b"))}}}
		if !w.chance(4) {
			d.Attributes["numa"] = resourcev1.DeviceAttribute{StringValue: new(w.pick("0", "1"))}
		}
		if w.chance(5) {
			d.Taints = []resourcev1.DeviceTaint{{Key: "broken", Effect: resourcev1.DeviceTaintEffect(w.pick("NoSchedule", "NoExecute", "None"))}}
		}
		if parts {
			d.ConsumesCounters = []resourcev1.DeviceCounterConsumption{{CounterSet: "m", Counters: map[string]resourcev1.Counter{"mem": {Value: resource.MustParse(w.pick("1", "2"))}}}}
		}
		s.Spec.Devices = append(s.Spec.Devices, d)
	}
	all := []*resourcev1.ResourceSlice{s}
	if parts {
		s.Spec.Pool.ResourceSliceCount = 2
		counters := s.DeepCopy()
		counters.Name += "-counters"
		counters.Spec.Devices = nil
		counters.Spec.SharedCounters = []resourcev1.CounterSet{{Name: "m", Counters: map[string]resourcev1.Counter{"mem": {Value: resource.MustParse(w.pick("2", "3"))}}}}
		all = append(all, counters)
	}
	for _, x := range all {
		w.facts.slices = append(w.facts.slices, x)
		w.devices.SliceChanged(nil, x)
	}
}

func (w *deviceWorld) claim() *resourcev1.ResourceClaim {
	w.n++
	c := deviceClaim(fmt.Sprint("c", w.n))
	c.UID = types.UID(c.Name)
	// Upstream gives up on a node where "all" would break a constraint, whatever
	// else is on offer there.
	match := w.chance(3)
	for i := range 1 + w.IntN(2) {
		var tolerations []resourcev1.DeviceToleration
		if w.chance(4) {
			tolerations = []resourcev1.DeviceToleration{{Key: "broken", Operator: resourcev1.DeviceTolerationOpExists}}
		}
		r := resourcev1.DeviceRequest{Name: fmt.Sprint("r", i)}
		mode := func() (resourcev1.DeviceAllocationMode, int64) {
			if !match && w.chance(6) {
				return resourcev1.DeviceAllocationModeAll, 0
			}
			return resourcev1.DeviceAllocationModeExactCount, int64(1 + w.IntN(2))
		}
		if w.chance(3) {
			for j := range 2 {
				m, k := mode()
				r.FirstAvailable = append(r.FirstAvailable, resourcev1.DeviceSubRequest{Name: fmt.Sprint("s", j), DeviceClassName: w.pick("a", "b", "any"), AllocationMode: m, Count: k, Tolerations: tolerations})
			}
		} else {
			m, k := mode()
			r.Exactly = &resourcev1.ExactDeviceRequest{DeviceClassName: w.pick("a", "b", "any"), AllocationMode: m, Count: k, Tolerations: tolerations}
			if w.admins && w.chance(4) {
				r.Exactly.AdminAccess = new(true)
			}
		}
		c.Spec.Devices.Requests = append(c.Spec.Devices.Requests, r)
	}
	if match {
		c.Spec.Devices.Constraints = []resourcev1.DeviceConstraint{{MatchAttribute: new(resourcev1.FullyQualifiedName("d/numa"))}}
	}
	w.set(nil, c)
	return c
}

// plug gives some nodes the resource of class a by a device plugin, as devices
// are not on offer there: pods that ask for it take what the node has.
func (w *deviceWorld) plug(name string) {
	n := w.plain.node(name)
	if n == nil || !w.chance(3) {
		return
	}
	n = n.DeepCopy()
	n.Status.Allocatable["example.com/a"] = *resource.NewQuantity(int64(w.IntN(3)), resource.DecimalSI)
	w.setNode(n)
}

// asks has a pod ask for extended resources that devices stand for, in some of
// its containers, and returns how many devices of which class that takes.
func (w *deviceWorld) asks(p *corev1.Pod) map[corev1.ResourceName]int {
	demand := func() int { return w.IntN(3) }
	total := map[corev1.ResourceName]int{}
	name := corev1.ResourceName(w.pick("example.com/a", "deviceclass.resource.kubernetes.io/a", "deviceclass.resource.kubernetes.io/b"))
	give := func(c *corev1.Container, k int) {
		if k > 0 {
			c.Resources.Requests = corev1.ResourceList{name: *resource.NewQuantity(int64(k), resource.DecimalSI)}
			c.Resources.Limits = c.Resources.Requests
		}
	}
	first, side, main, second := demand(), demand(), demand(), demand()
	p.Spec.InitContainers = []corev1.Container{{Name: "first"}, {Name: "side", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}, {Name: "second"}}
	give(&p.Spec.InitContainers[0], first)
	give(&p.Spec.InitContainers[1], side)
	give(&p.Spec.InitContainers[2], second)
	give(&p.Spec.Containers[0], main)
	if most := max(first, side+second, side+main); most > 0 {
		total[name] = most
	}
	return total
}

// needs is the claim that a pod with extended resources needs on a node: nil,
// and whether the node's own will do, where it has such.
func (w *deviceWorld) needs(total map[corev1.ResourceName]int, n *corev1.Node) (claim *resourcev1.ResourceClaim, own bool) {
	for name, k := range total {
		if have := n.Status.Allocatable[name]; !have.IsZero() {
			for _, p := range w.plain.on(n.Name) {
				have.Sub(*resource.NewQuantity(int64(w.took[p.Name][name]), resource.DecimalSI))
			}
			return nil, have.Value() >= int64(k)
		}
		c := deviceClaim("asked", resourcev1.DeviceRequest{Name: "r", Exactly: exactly(string(name[len(name)-1:]), int64(k))})
		return c, true
	}
	return nil, true
}

// Extended resources that classes stand for, in random clusters of which some
// nodes have them as device plugins give them: each pod gets what it asks for
// from its node or from devices, whatever its containers share, and none waits
// that could have it.
func TestExtendedResourcesHoldAgainstThePlainDefinition(t *testing.T) {
	placed, refused, plugged := 0, 0, 0
	each(t, func(t *testing.T, seed uint64) {
		w := newDeviceWorld(t, seed)
		for range 25 {
			switch w.IntN(8) {
			case 0:
				w.disturb()
			case 1:
				w.offer()
			case 2:
				w.plug(fmt.Sprint("n", 1+w.IntN(5)))
			case 3: // somebody is gone, and so is the claim
				if name := w.anyClaim(); name != "" {
					c := w.facts.claims[name]
					delete(w.facts.claims, name)
					w.devices.ClaimChanged(c, nil)
				}
			}
			w.n++
			p := testPod(fmt.Sprint("user-", w.n), priority(0))
			total := w.asks(p)
			n, no := w.s.placeOne(p)
			for _, m := range w.plain.nodes {
				if no == nil && m.Name != n.Name || !w.plain.may(p, m) {
					continue
				}
				c, ok := w.needs(total, m)
				if c != nil {
					w.facts.claims["asked"] = c
					ok = w.facts.possible([]string{"asked"}, m)
					delete(w.facts.claims, "asked")
				}
				if ok != (no == nil) {
					t.Fatalf("seed %d: pod %s with %v on %s: %v by the definition, but %v", seed, p.Name, total, m.Name, ok, no)
				}
			}
			if no != nil {
				refused++
				continue
			}
			placed++
			c, _ := w.needs(total, n.Object)
			w.plain.pods[p.Name], w.plain.at[p.Name], w.took[p.Name] = p, n.Name, total
			if refused := w.rule.Reserve(w.s.profiles[Name].kept(w.s.queue.put(p, epoch)).c, p, n); refused != nil {
				t.Fatalf("seed %d: pod %s was placed on %s and then refused: %v", seed, p.Name, n.Name, refused.Reasons)
			}
			promise := "for extended resources of " + p.UID
			a := w.devices.Promised(promise)
			if (a == nil) != (c == nil) {
				t.Fatalf("seed %d: pod %s on %s gets %v for the claim %v", seed, p.Name, n.Name, a, c)
			}
			if a == nil {
				plugged++
				continue
			}
			one := a.DeepCopy() // as if all containers had one request
			for i := range one.Devices.Results {
				one.Devices.Results[i].Request = "r"
			}
			if text := w.facts.wrong(c, one, n.Object); text != "" {
				t.Fatalf("seed %d: pod %s on %s: %s", seed, p.Name, n.Name, text)
			}
			if w.chance(5) {
				w.rule.Unreserve(p, n.Name)
				w.s.state.Remove(p.UID)
				delete(w.plain.pods, p.Name)
				delete(w.plain.at, p.Name)
				if w.devices.Promised(promise) != nil {
					t.Fatalf("seed %d: what was taken back is still promised", seed)
				}
				continue
			}
			c.Name, c.UID, c.Status.Allocation = "for-"+p.Name, promise, one
			w.set(nil, c)
			w.rule.Bound(p)
		}
	})
	if *seed == 0 && (placed < int(*seeds) || refused < int(*seeds) || plugged < int(*seeds)/4) {
		t.Errorf("%d placed, %d of them by plugins, %d refused: the test proves little", placed, plugged, refused)
	}
}

// anyClaim names one of the claims.
func (w *deviceWorld) anyClaim() string {
	names := slices.Sorted(maps.Keys(w.facts.claims))
	if len(names) == 0 {
		return ""
	}
	return names[w.IntN(len(names))]
}

// set has the scheduler see a claim.
func (w *deviceWorld) set(old, c *resourcev1.ResourceClaim) {
	w.facts.claims[c.Name] = c
	w.devices.ClaimChanged(old, c)
}

// Claims in random clusters: no device is given twice or where it cannot be
// reached, every request gets what it asks for, and none is left over that any
// way to share out the devices could satisfy.
func TestDevicesHoldAgainstThePlainDefinition(t *testing.T) {
	placed, refused := 0, 0
	each(t, func(t *testing.T, seed uint64) {
		w := newDeviceWorld(t, seed)
		for range 25 {
			switch w.IntN(6) {
			case 0:
				w.disturb()
			case 1:
				w.offer()
			case 2: // somebody is done
				if name := w.anyClaim(); name != "" && w.facts.claims[name].Status.Allocation != nil {
					next := w.facts.claims[name].DeepCopy()
					next.Status = resourcev1.ResourceClaimStatus{}
					w.set(w.facts.claims[name], next)
				}
			}
			c := w.claim()
			names := []string{c.Name}
			if other := w.anyClaim(); other != c.Name && w.chance(4) {
				names = append(names, other)
			}
			w.n++
			p := testPod(fmt.Sprintf("user-%s-%d", c.Name, w.n), uses(names...), priority(0), func(p *corev1.Pod) { p.Namespace = "default" })
			n, no := w.s.placeOne(p)
			if no != nil {
				refused++
				for _, m := range w.plain.nodes {
					if w.plain.may(p, m) && w.facts.possible(names, m) {
						t.Fatalf("seed %d: pod %s could have its devices on %s, but: %s", seed, p.Name, m.Name, no.message())
					}
				}
				continue
			}
			placed++
			w.plain.pods[p.Name], w.plain.at[p.Name] = p, n.Name
			if refused := w.rule.Reserve(nil, p, n); refused != nil {
				t.Fatalf("seed %d: pod %s was placed on %s and then refused: %v", seed, p.Name, n.Name, refused.Reasons)
			}
			for _, name := range names {
				c := w.facts.claims[name]
				a := w.devices.Promised(c.UID)
				if c.Status.Allocation != nil {
					if !w.facts.has(c, n.Object) {
						t.Fatalf("seed %d: pod %s on %s cannot reach what %s has", seed, p.Name, n.Name, name)
					}
					continue
				}
				if a == nil {
					t.Fatalf("seed %d: nothing for claim %s", seed, name)
				}
				if text := w.facts.wrong(c, a, n.Object); text != "" {
					t.Fatalf("seed %d: claim %s on %s: %s", seed, name, n.Name, text)
				}
				next := c.DeepCopy()
				next.Status.Allocation = a
				if w.chance(5) { // it could not be written
					w.rule.Unreserve(p, n.Name)
					break
				}
				w.set(c, next)
			}
			w.rule.Bound(p)
		}
	})
	if *seed == 0 && (placed < int(*seeds) || refused < int(*seeds)) {
		t.Errorf("%d placed, %d refused: the test proves little", placed, refused)
	}
}
