package core

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/kinds/fill"
	"sagong/kinds/podspec"
)

// preparePodCreate starts a pod's life: pending, with its quality of service
// fixed, and held back while it has scheduling gates.
func preparePodCreate(_ context.Context, p *corev1.Pod) {
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: podspec.QOS(&p.Spec)}
	if len(p.Spec.SchedulingGates) > 0 {
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
			Reason: corev1.PodReasonSchedulingGated, Message: "Scheduling is blocked due to non-empty scheduling gates",
		}}
	}
	mergeMatchLabelKeys(p)
}

// mergeMatchLabelKeys turns the keys of spread and affinity terms into
// requirements with the values the pod itself has, so that the scheduler only
// ever looks at selectors.
func mergeMatchLabelKeys(p *corev1.Pod) {
	merge := func(selector *metav1.LabelSelector, keys []string, op metav1.LabelSelectorOperator) {
		if selector == nil {
			return
		}
		for _, k := range keys {
			if v, ok := p.Labels[k]; ok {
				selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{Key: k, Operator: op, Values: []string{v}})
			}
		}
	}
	terms := func(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
		for i := range required {
			merge(required[i].LabelSelector, required[i].MatchLabelKeys, metav1.LabelSelectorOpIn)
			merge(required[i].LabelSelector, required[i].MismatchLabelKeys, metav1.LabelSelectorOpNotIn)
		}
		for i := range preferred {
			t := &preferred[i].PodAffinityTerm
			merge(t.LabelSelector, t.MatchLabelKeys, metav1.LabelSelectorOpIn)
			merge(t.LabelSelector, t.MismatchLabelKeys, metav1.LabelSelectorOpNotIn)
		}
	}
	if a := p.Spec.Affinity; a != nil {
		if a.PodAffinity != nil {
			terms(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
		}
		if a.PodAntiAffinity != nil {
			terms(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
		}
	}
	for i := range p.Spec.TopologySpreadConstraints {
		c := &p.Spec.TopologySpreadConstraints[i]
		merge(c.LabelSelector, c.MatchLabelKeys, metav1.LabelSelectorOpIn)
	}
}

// preparePodStatus keeps what a status write may not touch. The pod that is
// being deleted stays so: the timestamp is the deletion's to set.
func preparePodStatus(_ context.Context, p, old *corev1.Pod) {
	p.DeletionTimestamp = old.DeletionTimestamp
	p.DeletionGracePeriodSeconds = old.DeletionGracePeriodSeconds
	p.OwnerReferences = slices.Clone(old.OwnerReferences)
	// Older kubelets leave these out.
	fill.Zero(&p.Status.QOSClass, old.Status.QOSClass)
	keepObservedGenerations(&p.Status, &old.Status)
	if p.Status.PodIP != old.Status.PodIP && len(p.Status.PodIPs) > 0 && len(old.Status.PodIPs) > 0 &&
		p.Status.PodIPs[0].IP == old.Status.PodIPs[0].IP {
		p.Status.PodIPs = nil // an older client changed only the single address
	}
	podspec.DefaultPodIPs(&p.Status)
}

// keepObservedGenerations keeps what a client that does not know the field leaves
// out.
func keepObservedGenerations(now, was *corev1.PodStatus) {
	fill.Zero(&now.ObservedGeneration, was.ObservedGeneration)
	for i := range now.Conditions {
		c := &now.Conditions[i]
		if c.ObservedGeneration != 0 {
			continue
		}
		for _, o := range was.Conditions {
			if o.Type == c.Type {
				c.ObservedGeneration = o.ObservedGeneration
			}
		}
	}
}
