// Package state is what the scheduler knows of the nodes and of the pods on
// them. It is changed event by event and never scanned anew: whoever keeps
// something worked out from it follows the journal of the nodes that changed.
package state

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	podresource "k8s.io/component-helpers/resource"
)

// Resources is an amount of everything that nodes give and pods take.
type Resources struct {
	MilliCPU  int64
	Memory    int64 // bytes
	Ephemeral int64 // bytes of local disk
	Pods      int64
	// Other holds hugepages and extended resources, in their own units.
	Other map[corev1.ResourceName]int64
}

// FromList reads a resource list.
func FromList(l corev1.ResourceList) Resources {
	var r Resources
	for name, q := range l {
		switch name {
		case corev1.ResourceCPU:
			r.MilliCPU = q.MilliValue()
		case corev1.ResourceMemory:
			r.Memory = q.Value()
		case corev1.ResourceEphemeralStorage:
			r.Ephemeral = q.Value()
		case corev1.ResourcePods:
			r.Pods = q.Value()
		default:
			if r.Other == nil {
				r.Other = map[corev1.ResourceName]int64{}
			}
			r.Other[name] = q.Value()
		}
	}
	return r
}

// Amounts counted for pods that request none when nodes are compared, so that
// many such pods do not pile up on one node: upstream's 100m and 200 MiB.
const (
	DefaultMilliCPU = 100
	DefaultMemory   = 200 << 20
)

// Requests returns what a pod takes of a node, and the same with the defaults
// for comparing nodes. While a pod is resized that is the largest of what it
// asks for, what was allocated and what its containers have; a resize that its
// node found infeasible does not count.
func Requests(p *corev1.Pod) (hard, compared Resources) {
	if plain(p) {
		return plainRequests(p)
	}
	return anyRequests(p)
}

// plain tells pods whose requests are those of their containers and nothing
// else: nearly all that come to be placed.
func plain(p *corev1.Pod) bool {
	if len(p.Spec.InitContainers) > 0 || p.Spec.Resources != nil || p.Status.Resources != nil || p.Status.AllocatedResources != nil {
		return false
	}
	for i := range p.Status.ContainerStatuses {
		if !asAsked(p, &p.Status.ContainerStatuses[i]) {
			return false
		}
	}
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == corev1.PodResizePending {
			return false
		}
	}
	return true
}

// asAsked tells whether a container was given what the spec asks for.
func asAsked(p *corev1.Pod, s *corev1.ContainerStatus) bool {
	if s.AllocatedResources == nil && s.Resources == nil {
		return true
	}
	i := slices.IndexFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Name == s.Name })
	if i < 0 {
		return false
	}
	asked := p.Spec.Containers[i].Resources.Requests
	return (s.AllocatedResources == nil || equal(asked, s.AllocatedResources)) && (s.Resources == nil || equal(asked, s.Resources.Requests))
}

func equal(a, b corev1.ResourceList) bool {
	return maps.EqualFunc(a, b, func(x, y resource.Quantity) bool { return x.Cmp(y) == 0 })
}

func plainRequests(p *corev1.Pod) (hard, compared Resources) {
	for i := range p.Spec.Containers {
		l := p.Spec.Containers[i].Resources.Requests
		r := FromList(l)
		hard.Add(&r, 1)
		compared.MilliCPU += r.MilliCPU
		compared.Memory += r.Memory
		if _, set := l[corev1.ResourceCPU]; !set {
			compared.MilliCPU += DefaultMilliCPU
		}
		if _, set := l[corev1.ResourceMemory]; !set {
			compared.Memory += DefaultMemory
		}
	}
	over := FromList(p.Spec.Overhead)
	hard.Add(&over, 1)
	compared.MilliCPU += over.MilliCPU
	compared.Memory += over.Memory
	hard.Pods = 1
	return hard, compared
}

func anyRequests(p *corev1.Pod) (hard, compared Resources) {
	o := podresource.PodResourcesOptions{UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true}
	hard = FromList(podresource.PodRequests(p, o))
	hard.Pods = 1
	o.NonMissingContainerRequests = nonMissing
	with := FromList(podresource.PodRequests(p, o))
	return hard, Resources{MilliCPU: with.MilliCPU, Memory: with.Memory}
}

var nonMissing = corev1.ResourceList{
	corev1.ResourceCPU:    *resource.NewMilliQuantity(DefaultMilliCPU, resource.DecimalSI),
	corev1.ResourceMemory: *resource.NewQuantity(DefaultMemory, resource.BinarySI),
}

// Add adds o, sign times (1 or -1).
func (r *Resources) Add(o *Resources, sign int64) {
	r.MilliCPU += sign * o.MilliCPU
	r.Memory += sign * o.Memory
	r.Ephemeral += sign * o.Ephemeral
	r.Pods += sign * o.Pods
	for name, n := range o.Other {
		if r.Other == nil {
			r.Other = map[corev1.ResourceName]int64{}
		}
		r.Other[name] += sign * n
	}
}

// Clone is a copy that shares nothing.
func (r *Resources) Clone() Resources {
	c := *r
	c.Other = maps.Clone(r.Other)
	return c
}

// Equal tells whether two amounts are the same.
func (r *Resources) Equal(o *Resources) bool {
	return r.MilliCPU == o.MilliCPU && r.Memory == o.Memory && r.Ephemeral == o.Ephemeral && r.Pods == o.Pods && maps.Equal(r.Other, o.Other)
}
