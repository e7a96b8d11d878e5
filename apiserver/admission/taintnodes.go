package admission

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"sagong/apiserver/resource"
)

// TaintNodesByCondition keeps pods off a new node until the node controller has
// seen it Ready.
type TaintNodesByCondition struct{}

// Name implements Plugin.
func (TaintNodesByCondition) Name() string { return "TaintNodesByCondition" }

// Admit implements Mutator.
func (TaintNodesByCondition) Admit(_ context.Context, a *resource.Attributes) error {
	if a.Operation != resource.Create || !on(a, "", "nodes") {
		return nil
	}
	n := a.Object.(*corev1.Node)
	taint := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}
	if !slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&taint) }) {
		n.Spec.Taints = append(n.Spec.Taints, taint)
	}
	return nil
}
