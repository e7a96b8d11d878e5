package policy

import (
	"context"
	"slices"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sagong/kinds/field"
	"sagong/object"
)

// PodDisruptionBudget defines policy/v1 PodDisruptionBudget.
func PodDisruptionBudget() *object.Definition {
	orNA := func(v *intstr.IntOrString) string {
		if v == nil {
			return "N/A"
		}
		return v.String()
	}
	return object.Kind[*policyv1.PodDisruptionBudget]{
		Group: "policy", Version: "v1", Kind: "PodDisruptionBudget", Resource: "poddisruptionbudgets", ShortNames: []string{"pdb"},
		Namespaced: true, Status: true, Generation: true, RefuseUnconditionalUpdate: true,
		New:     func() *policyv1.PodDisruptionBudget { return &policyv1.PodDisruptionBudget{} },
		NewList: func() runtime.Object { return &policyv1.PodDisruptionBudgetList{} },
		Columns: []object.TypedColumn[*policyv1.PodDisruptionBudget]{
			object.NameColumn[*policyv1.PodDisruptionBudget](),
			object.StringColumn("Min Available", "The minimum number of pods that must be available.", func(b *policyv1.PodDisruptionBudget) string { return orNA(b.Spec.MinAvailable) }),
			object.StringColumn("Max Unavailable", "The maximum number of pods that may be unavailable.", func(b *policyv1.PodDisruptionBudget) string { return orNA(b.Spec.MaxUnavailable) }),
			object.IntColumn("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time.", func(b *policyv1.PodDisruptionBudget) int64 { return int64(b.Status.DisruptionsAllowed) }),
			object.AgeColumn[*policyv1.PodDisruptionBudget](),
		},
		Default: stripEmptyMatch,
		PrepareCreate: func(_ context.Context, b *policyv1.PodDisruptionBudget) {
			b.Status = policyv1.PodDisruptionBudgetStatus{}
		},
		Validate:             validateBudget,
		ValidateUpdate:       func(b, _ *policyv1.PodDisruptionBudget) field.ErrorList { return validateBudget(b) },
		ValidateStatusUpdate: validateBudgetStatus,
	}.Definition()
}

// emptyMatch is how version v1beta1 wrote a selector of all or of no pods, which
// otherwise meant the opposite there.
const emptyMatch = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match"

// stripEmptyMatch takes what v1beta1 wrote out of a selector, unless that is all
// there is and selects no pod.
func stripEmptyMatch(b *policyv1.PodDisruptionBudget) {
	s := b.Spec.Selector
	if s == nil {
		return
	}
	is := func(r metav1.LabelSelectorRequirement) bool { return r.Key == emptyMatch }
	if !slices.ContainsFunc(s.MatchExpressions, is) {
		return
	}
	if len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 1 && s.MatchExpressions[0].Operator == metav1.LabelSelectorOpExists {
		return
	}
	s.MatchExpressions = slices.DeleteFunc(s.MatchExpressions, is)
}
