package plugins

import (
	"maps"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"sagong/reconcile"
)

// Args are the complete arguments of the rules that take any.
type Args struct {
	Fit           configv1.NodeResourcesFitArgs
	Balanced      configv1.NodeResourcesBalancedAllocationArgs
	Affinity      configv1.InterPodAffinityArgs
	Spread        configv1.PodTopologySpreadArgs
	NodeAffinity  configv1.NodeAffinityArgs
	VolumeBinding configv1.VolumeBindingArgs
	Preemption    configv1.DefaultPreemptionArgs
	Devices       configv1.DynamicResourcesArgs
}

// Shared is what the rules of all profiles use together.
type Shared struct {
	Deps
	Namespaces        Namespaces
	NamespacesVersion func() uint64
	Owners            *Owners  // nil without a hub
	Volumes           *Volumes // nil without a hub
	Devices           *Devices // nil without a hub
}

// Share makes what the rules use together.
func Share(d Deps) *Shared {
	s := &Shared{Deps: d}
	if d.Hub == nil {
		return s
	}
	s.Owners, s.Volumes, s.Devices = NewOwners(d.Hub), NewVolumes(d), NewDevices(d)
	namespaces, version := reconcile.ViewOf[*corev1.Namespace](d.Hub), new(atomic.Uint64)
	namespaces.OnChange(func(old, new *corev1.Namespace) {
		if old == nil || new == nil || !maps.Equal(old.Labels, new.Labels) {
			version.Add(1)
			if d.Post != nil {
				d.Post(func() { d.Changed(NamespaceChanged) })
			}
		}
	})
	s.NamespacesVersion = version.Load
	s.Namespaces = func(name string) labels.Set {
		if ns, ok := namespaces.Get("", name); ok {
			return ns.Labels
		}
		return nil
	}
	return s
}

// All makes the rules in upstream's order: the first that rules a node out is
// the one named. The arguments must be complete and valid.
func (s *Shared) All(a *Args) ([]Plugin, error) {
	affinity, err := NewNodeAffinity(a.NodeAffinity.AddedAffinity)
	if err != nil {
		return nil, err
	}
	fit, balanced := NewNodeResourcesFit(&a.Fit), NewBalancedAllocation(&a.Balanced)
	fit.devices, balanced.devices = s.Devices, s.Devices
	var all []Plugin
	if !s.Groups {
		all = append(all, noGroups)
	}
	all = append(all, NodeUnschedulable{}, NodeName{}, TaintToleration{}, affinity, NodePorts{}, fit)
	if v := s.Volumes; v != nil {
		limit := time.Duration(*a.VolumeBinding.BindTimeoutSeconds) * time.Second
		all = append(all, VolumeRestrictions{v}, NodeVolumeLimits{v}, VolumeBinding{v, limit, a.VolumeBinding.Shape}, VolumeZone{v})
	}
	if s.Devices != nil {
		all = append(all, DynamicResources{s.Devices, a.Devices.FilterTimeout.Duration, a.Devices.BindingTimeout.Duration})
	}
	return append(all,
		NewPodTopologySpread(a.Spread.DefaultConstraints, a.Spread.DefaultingType != configv1.ListDefaulting, s.Owners),
		NewInterPodAffinity(s.Namespaces, s.NamespacesVersion, *a.Affinity.HardPodAffinityWeight, a.Affinity.IgnorePreferredTermsOfExistingPods),
		balanced, ImageLocality{}, NodeDeclaredFeatures{},
	), nil
}
