package plugins

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	devicecel "k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"

	"sagong/scheduler/state"
)

// A device class may stand for an extended resource, so that pods which ask for
// that as they always have get devices. Where a node has such a resource of its
// own, its pods take that; elsewhere a claim is made for the pod once its node is
// chosen, and is its alone.

// classFor is the class whose devices a resource is, nil for none. Of several
// that name the same the newest counts, then the first by name.
func (d *Devices) classFor(name corev1.ResourceName) *resourcev1.DeviceClass {
	if d == nil {
		return nil
	}
	return d.resources[name]
}

// mapResources notes what resources the classes stand for; true when that is
// something else than before.
func (d *Devices) mapResources() bool {
	now := make(map[corev1.ResourceName]*resourcev1.DeviceClass, len(d.named))
	for _, c := range d.named {
		now[corev1.ResourceName(resourcev1.ResourceDeviceClassPrefix+c.Name)] = c
		name := c.Spec.ExtendedResourceName
		if name == nil {
			continue
		}
		at := corev1.ResourceName(*name)
		o := now[at]
		if o == nil || o.CreationTimestamp.Before(&c.CreationTimestamp) || o.CreationTimestamp.Equal(&c.CreationTimestamp) && c.Name < o.Name {
			now[at] = c
		}
	}
	changed := len(now) != len(d.resources)
	for name, c := range now {
		if o := d.resources[name]; o == nil || o.Name != c.Name {
			changed = true
		}
	}
	d.resources = now
	return changed
}

// mayBeDevices tells resources that a class may stand for.
func mayBeDevices(name corev1.ResourceName) bool {
	return isExtended(name) || strings.HasPrefix(string(name), resourcev1.ResourceDeviceClassPrefix)
}

// given tells whether devices make up for a resource that a node lacks.
func (d *Devices) given(name corev1.ResourceName, n *state.Node) bool {
	return n.Capacity.Other[name] == 0 && d.classFor(name) != nil
}

// MayClaim tells whether a pod has resource claims or may get one for its
// extended resources.
func MayClaim(p *corev1.Pod) bool {
	asks := func(list []corev1.Container) bool {
		for i := range list {
			for name := range list[i].Resources.Requests {
				if mayBeDevices(name) {
					return true
				}
			}
		}
		return false
	}
	return len(p.Spec.ResourceClaims) > 0 || asks(p.Spec.Containers) || asks(p.Spec.InitContainers)
}

// special tells a claim that was made for a pod's extended resources.
func special(c *resourcev1.ResourceClaim) bool {
	return c.Annotations[resourcev1.ExtendedResourceClaimAnnotation] == "true" && ownerOf(c) != ""
}

func (d *Devices) noteSpecial(pod types.UID, c state.Claim, there bool) {
	list := slices.DeleteFunc(d.specials[pod], func(o state.Claim) bool { return o == c })
	if there {
		list = append(list, c)
	}
	if d.specials[pod] = list; len(list) == 0 {
		delete(d.specials, pod)
	}
}

// extended is what a class asks for that devices may be given for.
type extended struct {
	names []corev1.ResourceName // sorted
	// stale is a claim from an earlier attempt, whose devices may do no longer.
	stale  bool
	claims map[string]*resourcev1.ResourceClaim // by the resources that a node lacks
}

// extendedOf returns nil for a class none of whose resources a device class
// stands for.
func (d *Devices) extendedOf(c *Class) *extended {
	x := &extended{claims: map[string]*resourcev1.ResourceClaim{}}
	backed := false
	for name, q := range c.Hard.Other {
		if q > 0 && mayBeDevices(name) {
			x.names = append(x.names, name)
			backed = backed || d.classFor(name) != nil
		}
	}
	if !backed {
		return nil
	}
	slices.Sort(x.names)
	x.stale = len(d.specials[c.Pod.UID]) > 0
	return x
}

var (
	staleClaim = RefuseFinally("cannot schedule extended resource claim")
	cannotFit  = RefuseFinally("cannot fit resource")
)

// lacked are the resources that a node does not have of its own.
func (d *Devices) lacked(names []corev1.ResourceName, n *state.Node) ([]corev1.ResourceName, *No) {
	var list []corev1.ResourceName
	for _, name := range names {
		if d.given(name, n) {
			list = append(list, name)
		} else if _, known := n.Capacity.Other[name]; !known {
			return nil, cannotFit
		}
	}
	return list, nil
}

// on is the claim that the class's pods need on a node, nil for none.
func (x *extended) on(d *Devices, p *corev1.Pod, n *state.Node) (*resourcev1.ResourceClaim, *No) {
	if x.stale {
		return nil, staleClaim
	}
	names, no := d.lacked(x.names, n)
	if no != nil || len(names) == 0 {
		return nil, no
	}
	var b strings.Builder
	for _, name := range names {
		b.WriteString(string(name) + " ")
	}
	c := x.claims[b.String()]
	if c == nil {
		c, _ = d.specialClaim(p, names)
		x.claims[b.String()] = c
	}
	return c, nil
}

// specialClaim is the claim for a pod's extended resources, with what each
// container gets of it.
func (d *Devices) specialClaim(p *corev1.Pod, names []corev1.ResourceName) (*resourcev1.ResourceClaim, []corev1.ContainerExtendedResourceRequest) {
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{
		Namespace: p.Namespace, GenerateName: p.Name + "-extended-resources-",
		Annotations:     map[string]string{resourcev1.ExtendedResourceClaimAnnotation: "true"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID, Controller: new(true)}},
	}}
	var mappings []corev1.ContainerExtendedResourceRequest
	for _, name := range names {
		list, m := requestsFor(p, name, d.classFor(name).Name)
		c.Spec.Devices.Requests = append(c.Spec.Devices.Requests, list...)
		mappings = append(mappings, m...)
	}
	slices.SortFunc(c.Spec.Devices.Requests, func(a, b resourcev1.DeviceRequest) int { return strings.Compare(a.Name, b.Name) })
	return c, mappings
}

// requestsFor are the requests for one resource. Containers that live as long as
// the pod have one each. Init containers that end before they begin take the
// devices of those, and share one request for what the largest needs beyond.
func requestsFor(p *corev1.Pod, name corev1.ResourceName, class string) ([]resourcev1.DeviceRequest, []corev1.ContainerExtendedResourceRequest) {
	all := slices.Concat(p.Spec.InitContainers, p.Spec.Containers)
	short := func(i int) bool {
		r := all[i].RestartPolicy
		return i < len(p.Spec.InitContainers) && (r == nil || *r != corev1.ContainerRestartPolicyAlways)
	}
	type share struct{ container, request string }
	var long, brief []share
	own := make([]*resourcev1.DeviceRequest, len(all)) // of those that stay
	request := func(i int, lent []*resourcev1.DeviceRequest, shares *[]share) *resourcev1.DeviceRequest {
		q := all[i].Resources.Requests[name]
		want, ok := q.AsInt64()
		if !ok || want == 0 {
			return nil
		}
		for _, r := range lent {
			if r != nil {
				*shares = append(*shares, share{all[i].Name, r.Name})
				if want -= r.Exactly.Count; want <= 0 {
					return nil
				}
			}
		}
		var names []corev1.ResourceName
		for x := range all[i].Resources.Requests {
			names = append(names, x)
		}
		slices.Sort(names)
		r := &resourcev1.DeviceRequest{
			Name:    fmt.Sprintf("container-%d-request-%d", i, slices.Index(names, name)),
			Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: class, AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: want},
		}
		*shares = append(*shares, share{all[i].Name, r.Name})
		return r
	}
	for i := range all {
		if !short(i) {
			own[i] = request(i, nil, &long)
		}
	}
	var most *resourcev1.DeviceRequest
	others := map[string]bool{}
	for i := range all {
		if !short(i) {
			continue
		}
		if r := request(i, own[i:], &brief); r != nil {
			others[r.Name] = true
			if most == nil || most.Exactly.Count < r.Exactly.Count {
				most = r
			}
		}
	}
	var list []resourcev1.DeviceRequest
	if most != nil {
		list = append(list, *most)
		for i := range brief {
			if others[brief[i].request] {
				brief[i].request = most.Name
			}
		}
	}
	for _, r := range own {
		if r != nil {
			list = append(list, *r)
		}
	}
	var mappings []corev1.ContainerExtendedResourceRequest
	for _, s := range append(long, brief...) {
		mappings = append(mappings, corev1.ContainerExtendedResourceRequest{ContainerName: s.container, ResourceName: string(name), RequestName: s.request})
	}
	return list, mappings
}

// unmade names, among promises, the claim that is yet to be made for a pod.
func unmade(pod types.UID) types.UID { return "for extended resources of " + pod }

// backs tells whether a class stands for a resource that a pod asks for.
func (d *Devices) backs(p *corev1.Pod) bool {
	if len(d.resources) == 0 || !MayClaim(p) {
		return false
	}
	hard, _ := state.Requests(p)
	for name, q := range hard.Other {
		if q > 0 && mayBeDevices(name) && d.classFor(name) != nil {
			return true
		}
	}
	return false
}

// reserveExtended is what is to be made and reserved for a pod's extended
// resources on a node, nil for nothing.
func (r DynamicResources) reserveExtended(c *Class, p *corev1.Pod, n *state.Node) (*reservation, *No) {
	if c == nil || c.devices == nil || c.devices.extended == nil {
		return nil, nil
	}
	if len(r.specials[p.UID]) > 0 {
		r.discardStale(p) // its end is the change that has the pod tried again
		return nil, staleClaim
	}
	names, no := r.lacked(c.devices.extended.names, n)
	if no != nil || len(names) == 0 {
		return nil, no
	}
	x := &reservation{key: state.Claim{Namespace: p.Namespace}, uid: unmade(p.UID)}
	x.make, x.mappings = r.specialClaim(p, names)
	x.make.UID = x.uid
	return x, nil
}

// totals counts the devices of a class that a node can reach, and those of them
// that somebody has.
func (d *Devices) totals(class *resourcev1.DeviceClass, n *corev1.Node) (all, taken int64) {
	for _, s := range d.within(n.Name) {
		each := s.Spec.PerDeviceNodeSelection != nil && *s.Spec.PerDeviceNodeSelection
		if !each && !reaches(n, s.Spec.NodeName, s.Spec.AllNodes, s.Spec.NodeSelector) {
			continue
		}
		for i := range s.Spec.Devices {
			x := &s.Spec.Devices[i]
			if each && !reaches(n, x.NodeName, x.AllNodes, x.NodeSelector) || !d.ofClass(class, s.Spec.Driver, x) {
				continue
			}
			all++
			if structured.IsDeviceAllocated(structured.MakeDeviceID(s.Spec.Driver, s.Spec.Pool.Name, x.Name), &d.used) {
				taken++
			}
		}
	}
	return all, taken
}

func reaches(n *corev1.Node, name *string, every *bool, selector *corev1.NodeSelector) bool {
	on, all := "", every != nil && *every
	if name != nil {
		on = *name
	}
	ok, err := structured.NodeMatches(features, n, on, all, selector)
	return ok && err == nil
}

func (d *Devices) ofClass(class *resourcev1.DeviceClass, driver string, x *resourcev1.Device) bool {
	for _, s := range class.Spec.Selectors {
		if s.CEL == nil {
			continue
		}
		expr := d.cel.GetOrCompile(s.CEL.Expression)
		if expr.Error != nil {
			return false
		}
		in := devicecel.Device{Driver: driver, AllowMultipleAllocations: x.AllowMultipleAllocations, Attributes: x.Attributes, Capacity: x.Capacity}
		if ok, _, err := expr.DeviceMatches(context.Background(), in); !ok || err != nil {
			return false
		}
	}
	return true
}

// mapped is kept with the plans of pods whose resources no class stands for yet.
type mapped struct{ d *Devices }

// Filter implements NodeFilter.
func (mapped) Filter(*state.Node) *No { return nil }

// Version implements NodeFilter.
func (m mapped) Version() uint64 { return m.d.mapping }
