package plugins

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ndf "k8s.io/component-helpers/nodedeclaredfeatures"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"sagong/scheduler/state"
)

// Class is what all pods with the same demands have in common; they are placed
// together.
type Class struct {
	Pod *corev1.Pod // one of them
	*state.Demand
	Ports []state.Port

	// Only names the nodes that the class's affinity is confined to, as that of
	// daemon pods is; nil when any node may do.
	Only []string

	devices   *deviceFilter // nil without claims, or before they were looked at
	features  ndf.FeatureSet
	claims    *podClaims // nil without claims, or before they were looked at
	required  nodeaffinity.RequiredNodeAffinity
	preferred *nodeaffinity.PreferredSchedulingTerms
}

// NewClass reads a pod's demands. It fails on an affinity that cannot be parsed.
func NewClass(p *corev1.Pod) (*Class, error) {
	c := &Class{
		Pod: p, Demand: state.DemandOf(p), Ports: state.Ports(p), Only: onlyNodes(p),
		required: nodeaffinity.GetRequiredNodeAffinity(p), features: FeaturesOf(p),
	}
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil && len(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) > 0 {
		terms, err := nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
		if err != nil {
			return nil, err
		}
		c.preferred = terms
	}
	return c, nil
}

// onlyNodes returns the nodes that every term of the required affinity names,
// nil when one names none.
func onlyNodes(p *corev1.Pod) []string {
	a := p.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	var all []string
	for _, t := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		var names []string
		named := false
		for _, r := range t.MatchFields {
			if r.Key != metav1.ObjectNameField || r.Operator != corev1.NodeSelectorOpIn {
				continue
			}
			if !named {
				names, named = slices.Clone(r.Values), true
			} else {
				names = slices.DeleteFunc(names, func(n string) bool { return !slices.Contains(r.Values, n) })
			}
		}
		if !named {
			return nil
		}
		all = append(all, names...)
	}
	if all == nil && len(a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms) > 0 {
		all = []string{}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
