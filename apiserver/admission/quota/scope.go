package quota

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"sagong/kinds/podspec"
	"sagong/object"
)

// scopesOf are all conditions that an object must meet for a quota to count it.
func scopesOf(s *corev1.ResourceQuotaSpec) []corev1.ScopedResourceSelectorRequirement {
	var all []corev1.ScopedResourceSelectorRequirement
	for _, name := range s.Scopes {
		all = append(all, corev1.ScopedResourceSelectorRequirement{ScopeName: name, Operator: corev1.ScopeSelectorOpExists})
	}
	if s.ScopeSelector != nil {
		all = append(all, s.ScopeSelector.MatchExpressions...)
	}
	return all
}

func (m measure) inScopes(o object.Object, scopes []corev1.ScopedResourceSelectorRequirement) bool {
	for _, s := range scopes {
		if m.scope == nil || !m.scope(o, s) {
			return false
		}
	}
	return true
}

func podInScope(o object.Object, s corev1.ScopedResourceSelectorRequirement) bool {
	p := o.(*corev1.Pod)
	terminating := p.Spec.ActiveDeadlineSeconds != nil && *p.Spec.ActiveDeadlineSeconds >= 0
	switch s.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return terminating
	case corev1.ResourceQuotaScopeNotTerminating:
		return !terminating
	case corev1.ResourceQuotaScopeBestEffort:
		return podspec.QOS(&p.Spec) == corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopeNotBestEffort:
		return podspec.QOS(&p.Spec) != corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopePriorityClass:
		if p.Spec.PriorityClassName == "" {
			return selects(s, nil)
		}
		return selects(s, []string{p.Spec.PriorityClassName})
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return crossesNamespaces(p.Spec.Affinity)
	}
	return false
}

// selects reports whether one of the names that an object refers to meets the
// condition; without a name it is as for a missing label.
func selects(s corev1.ScopedResourceSelectorRequirement, names []string) bool {
	switch s.Operator {
	case corev1.ScopeSelectorOpExists:
		return len(names) > 0
	case corev1.ScopeSelectorOpDoesNotExist:
		return len(names) == 0
	case corev1.ScopeSelectorOpIn:
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(s.Values, n) })
	case corev1.ScopeSelectorOpNotIn:
		return len(names) == 0 || slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(s.Values, n) })
	}
	return false
}

func crossesNamespaces(a *corev1.Affinity) bool {
	if a == nil {
		return false
	}
	crosses := func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil }
	weighted := func(t corev1.WeightedPodAffinityTerm) bool { return crosses(t.PodAffinityTerm) }
	if p := a.PodAffinity; p != nil && (slices.ContainsFunc(p.RequiredDuringSchedulingIgnoredDuringExecution, crosses) ||
		slices.ContainsFunc(p.PreferredDuringSchedulingIgnoredDuringExecution, weighted)) {
		return true
	}
	p := a.PodAntiAffinity
	return p != nil && (slices.ContainsFunc(p.RequiredDuringSchedulingIgnoredDuringExecution, crosses) ||
		slices.ContainsFunc(p.PreferredDuringSchedulingIgnoredDuringExecution, weighted))
}

// claimInScope knows the scope of classes of volume attributes: the one asked
// for, the one in force, and the one being changed to all count.
func claimInScope(o object.Object, s corev1.ScopedResourceSelectorRequirement) bool {
	if s.ScopeName != corev1.ResourceQuotaScopeVolumeAttributesClass {
		return false
	}
	c := o.(*corev1.PersistentVolumeClaim)
	var names []string
	take := func(n string) {
		if n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	if n := c.Spec.VolumeAttributesClassName; n != nil {
		take(*n)
	}
	if n := c.Status.CurrentVolumeAttributesClassName; n != nil {
		take(*n)
	}
	if m := c.Status.ModifyVolumeStatus; m != nil {
		take(m.TargetVolumeAttributesClassName)
	}
	return selects(s, names)
}
