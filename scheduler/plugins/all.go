package plugins

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sagong/reconcile"
)

// All makes the rules in upstream's order: the first that rules a node out is
// the one named.
func All(d Deps) []Plugin {
	return []Plugin{
		NodeUnschedulable{}, NodeName{}, TaintToleration{}, NodeAffinity{}, NodePorts{},
		NodeResourcesFit{},
		// VolumeRestrictions, NodeVolumeLimits, VolumeBinding and VolumeZone
		// stand here.
		PodTopologySpread{}, InterPodAffinity{NamespaceLabels: namespaceLabels(d.Hub)},
		BalancedAllocation{}, ImageLocality{},
	}
}

// namespaceLabels finds the labels of a namespace.
func namespaceLabels(h *reconcile.Hub) func(string) labels.Set {
	if h == nil {
		return nil
	}
	namespaces := reconcile.ViewOf[*corev1.Namespace](h)
	return func(name string) labels.Set {
		if ns, ok := namespaces.Get("", name); ok {
			return ns.Labels
		}
		return nil
	}
}
