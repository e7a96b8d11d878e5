package policy

import (
	"context"

	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/object"
)

// PodDisruptionBudget defines policy/v1 PodDisruptionBudget.
func PodDisruptionBudget() *object.Definition {
	spec, status := policyv1.PodDisruptionBudgetSpec{}.SwaggerDoc(), policyv1.PodDisruptionBudgetStatus{}.SwaggerDoc()
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
			object.StringColumn("Min Available", spec["minAvailable"], func(b *policyv1.PodDisruptionBudget) string { return orNA(b.Spec.MinAvailable) }),
			object.StringColumn("Max Unavailable", spec["maxUnavailable"], func(b *policyv1.PodDisruptionBudget) string { return orNA(b.Spec.MaxUnavailable) }),
			object.IntColumn("Allowed Disruptions", status["disruptionsAllowed"], func(b *policyv1.PodDisruptionBudget) int64 { return int64(b.Status.DisruptionsAllowed) }),
			object.AgeColumn[*policyv1.PodDisruptionBudget](),
		},
		PrepareCreate: func(_ context.Context, b *policyv1.PodDisruptionBudget) {
			b.Status = policyv1.PodDisruptionBudgetStatus{}
		},
		Validate:             validateBudget,
		ValidateUpdate:       func(b, _ *policyv1.PodDisruptionBudget) field.ErrorList { return validateBudget(b) },
		ValidateStatusUpdate: validateBudgetStatus,
	}.Definition()
}
