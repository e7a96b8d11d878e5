package scheduler

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// deviceFacts is devices and claims as facts, and the rules of allocation written down
// from their definition. It shares no code with the scheduler, nor with the
// library that searches devices.
type deviceFacts struct {
	slices []*resourcev1.ResourceSlice
	claims map[string]*resourcev1.ResourceClaim // by name, with what they have
}

// thing is one device where it is offered.
type thing struct {
	slice  *resourcev1.ResourceSlice
	device *resourcev1.Device
}

func (x thing) id() string {
	return x.slice.Spec.Driver + "/" + x.slice.Spec.Pool.Name + "/" + x.device.Name
}

func (x thing) text(name string) string {
	if v, ok := x.device.Attributes[resourcev1.QualifiedName(name)]; ok && v.StringValue != nil {
		return *v.StringValue
	}
	return ""
}

// reach are the devices that a node can use.
func (s *deviceFacts) reach(n *corev1.Node) (all []thing) {
	for _, x := range s.slices {
		if on := x.Spec.NodeName; on != nil && *on != n.Name {
			continue
		}
		if sel := x.Spec.NodeSelector; sel != nil {
			r := sel.NodeSelectorTerms[0].MatchExpressions[0]
			if !slices.Contains(r.Values, n.Labels[r.Key]) {
				continue
			}
		}
		for i := range x.Spec.Devices {
			all = append(all, thing{x, &x.Spec.Devices[i]})
		}
	}
	return all
}

// free tells whether nobody else keeps a claim from a device.
func (s *deviceFacts) free(x thing) bool {
	for _, c := range s.claims {
		if c.Status.Allocation == nil {
			continue
		}
		for _, r := range c.Status.Allocation.Devices.Results {
			if (r.AdminAccess == nil || !*r.AdminAccess) && r.Driver+"/"+r.Pool+"/"+r.Device == x.id() {
				return false
			}
		}
	}
	return true
}

// left is how much of a counter of a pool nobody has, but for the devices given.
func (s *deviceFacts) left(x thing, also []thing) bool {
	for _, use := range x.device.ConsumesCounters {
		for name, want := range use.Counters {
			have := resource.Quantity{}
			for _, o := range s.slices {
				if o.Spec.Driver == x.slice.Spec.Driver && o.Spec.Pool.Name == x.slice.Spec.Pool.Name {
					for _, set := range o.Spec.SharedCounters {
						if set.Name == use.CounterSet {
							have.Add(set.Counters[name].Value)
						}
					}
				}
			}
			took := want.Value.DeepCopy()
			for _, o := range s.slices {
				for i := range o.Spec.Devices {
					y := thing{o, &o.Spec.Devices[i]}
					if o.Spec.Driver != x.slice.Spec.Driver || o.Spec.Pool.Name != x.slice.Spec.Pool.Name || y.id() == x.id() ||
						s.free(y) && !slices.ContainsFunc(also, func(z thing) bool { return z.id() == y.id() }) {
						continue
					}
					for _, other := range y.device.ConsumesCounters {
						if other.CounterSet == use.CounterSet {
							took.Add(other.Counters[name].Value)
						}
					}
				}
			}
			if took.Cmp(have) > 0 {
				return false
			}
		}
	}
	return true
}

// meant tells whether a device is what a request asks for; classes are named
// after the kind that they select, "any" selects all.
func meant(x thing, class string) bool { return class == "any" || x.text("kind") == class }

// suits tells whether a device is meant and its taints are tolerated. Who asks
// for all devices means the tainted ones too.
func suits(x thing, class string, tolerations []resourcev1.DeviceToleration) bool {
	if !meant(x, class) {
		return false
	}
	for _, taint := range x.device.Taints {
		if taint.Effect != resourcev1.DeviceTaintEffectNone && !slices.ContainsFunc(tolerations, func(t resourcev1.DeviceToleration) bool {
			return t.Key == taint.Key && t.Operator == resourcev1.DeviceTolerationOpExists
		}) {
			return false
		}
	}
	return true
}

// want is one way to satisfy a request.
type want struct {
	name, class string
	count       int
	all, admin  bool
	tolerations []resourcev1.DeviceToleration
}

func ways(r *resourcev1.DeviceRequest) (list []want) {
	if e := r.Exactly; e != nil {
		return []want{{r.Name, e.DeviceClassName, int(e.Count), e.AllocationMode == resourcev1.DeviceAllocationModeAll, e.AdminAccess != nil && *e.AdminAccess, e.Tolerations}}
	}
	for _, s := range r.FirstAvailable {
		list = append(list, want{r.Name + "/" + s.Name, s.DeviceClassName, int(s.Count), s.AllocationMode == resourcev1.DeviceAllocationModeAll, false, s.Tolerations})
	}
	return list
}

// possible tries every way to give a pod's unallocated claims their devices on a
// node, one request after the other.
func (s *deviceFacts) possible(names []string, n *corev1.Node) bool {
	var requests []*resourcev1.DeviceRequest
	var of []*resourcev1.ResourceClaim
	for _, name := range names {
		c := s.claims[name]
		if c.Status.Allocation != nil {
			if !s.has(c, n) {
				return false
			}
			continue
		}
		for i := range c.Spec.Devices.Requests {
			requests, of = append(requests, &c.Spec.Devices.Requests[i]), append(of, c)
		}
	}
	reach := s.reach(n)
	var given []thing
	has := map[string]bool{}                          // claim and device: a claim gets no device twice, in whatever way
	matched := map[*resourcev1.ResourceClaim]string{} // value of the attribute that must match
	var satisfy func(i int) bool
	var choose func(i int, w want, left, from int) bool
	choose = func(i int, w want, left, from int) bool {
		if left == 0 {
			return satisfy(i + 1)
		}
		for k := from; k < len(reach); k++ {
			x := reach[k]
			if !meant(x, w.class) {
				continue
			}
			if !suits(x, w.class, w.tolerations) {
				if w.all {
					return false
				}
				continue
			}
			must := len(of[i].Spec.Devices.Constraints) > 0
			value, before := x.text("numa"), matched[of[i]]
			if must && (value == "" || before != "" && before != value) {
				if w.all {
					return false
				}
				continue
			}
			if has[of[i].Name+" "+x.id()] {
				if w.all {
					return false
				}
				continue
			}
			if !w.admin && (!s.free(x) || slices.ContainsFunc(given, func(y thing) bool { return y.id() == x.id() }) || !s.left(x, given)) {
				if w.all {
					return false
				}
				continue
			}
			if must {
				matched[of[i]] = value
			}
			given = append(given, x) // upstream: even a watcher of the same pod's keeps others off
			has[of[i].Name+" "+x.id()] = true
			if choose(i, w, left-1, k+1) {
				return true
			}
			delete(has, of[i].Name+" "+x.id())
			given = given[:len(given)-1]
			matched[of[i]] = before
		}
		return false
	}
	satisfy = func(i int) bool {
		if i == len(requests) {
			return true
		}
		for _, w := range ways(requests[i]) {
			count := w.count
			if w.all {
				count = 0
				for _, x := range reach {
					if meant(x, w.class) {
						count++
					}
				}
				if count == 0 {
					continue
				}
			}
			if choose(i, w, count, 0) {
				return true
			}
		}
		return false
	}
	return satisfy(0)
}

// has tells whether a node can reach what a claim has: what that was when it was
// allocated counts, not what drivers and labels say since.
func (s *deviceFacts) has(c *resourcev1.ResourceClaim, n *corev1.Node) bool {
	sel := c.Status.Allocation.NodeSelector
	return sel == nil || slices.ContainsFunc(sel.NodeSelectorTerms, func(t corev1.NodeSelectorTerm) bool {
		for _, r := range t.MatchExpressions {
			if !slices.Contains(r.Values, n.Labels[r.Key]) {
				return false
			}
		}
		for _, r := range t.MatchFields {
			if !slices.Contains(r.Values, n.Name) {
				return false
			}
		}
		return true
	})
}

// wrong says what an allocation on a node breaks, "" for nothing. The claim does
// not have it yet.
func (s *deviceFacts) wrong(c *resourcev1.ResourceClaim, a *resourcev1.AllocationResult, n *corev1.Node) string {
	reach := s.reach(n)
	by := map[string][]thing{}
	var given []thing
	for _, r := range a.Devices.Results {
		i := slices.IndexFunc(reach, func(x thing) bool { return x.id() == r.Driver+"/"+r.Pool+"/"+r.Device })
		if i < 0 {
			return fmt.Sprintf("%s/%s is not within reach of %s", r.Pool, r.Device, n.Name)
		}
		x := reach[i]
		if r.AdminAccess == nil || !*r.AdminAccess {
			if !s.free(x) || slices.ContainsFunc(given, func(y thing) bool { return y.id() == x.id() }) {
				return x.id() + " is given twice"
			}
			if !s.left(x, given) {
				return x.id() + " takes more than there is"
			}
			given = append(given, x)
		}
		by[r.Request] = append(by[r.Request], x)
	}
	for i := range c.Spec.Devices.Requests {
		met := 0
		for _, w := range ways(&c.Spec.Devices.Requests[i]) {
			list, ok := by[w.name]
			if !ok {
				continue
			}
			met++
			if !w.all && len(list) != w.count {
				return fmt.Sprintf("%d devices for %s, not %d", len(list), w.name, w.count)
			}
			for _, x := range list {
				if !suits(x, w.class, w.tolerations) {
					return fmt.Sprintf("%s does not suit %s", x.id(), w.name)
				}
			}
			if w.all {
				for _, x := range reach {
					if meant(x, w.class) && !slices.ContainsFunc(list, func(y thing) bool { return x.id() == y.id() }) {
						return fmt.Sprintf("%s lacks %s", w.name, x.id())
					}
				}
			}
		}
		if met != 1 {
			return fmt.Sprintf("request %s is met in %d ways", c.Spec.Devices.Requests[i].Name, met)
		}
	}
	if len(c.Spec.Devices.Constraints) > 0 {
		value := ""
		for _, list := range by {
			for _, x := range list {
				if v := x.text("numa"); v == "" || value != "" && v != value {
					return "devices do not match"
				} else {
					value = v
				}
			}
		}
	}
	return ""
}
