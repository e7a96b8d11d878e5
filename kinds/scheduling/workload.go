package scheduling

import (
	"context"

	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// Workload defines scheduling.k8s.io/v1beta1 Workload.
func Workload() *object.Definition {
	return object.Kind[*schedulingv1beta1.Workload]{
		Group: "scheduling.k8s.io", Version: "v1beta1", Kind: "Workload", Resource: "workloads", Namespaced: true,
		New:     func() *schedulingv1beta1.Workload { return &schedulingv1beta1.Workload{} },
		NewList: func() runtime.Object { return &schedulingv1beta1.WorkloadList{} },
		Columns: []object.TypedColumn[*schedulingv1beta1.Workload]{
			object.NameColumn[*schedulingv1beta1.Workload](),
			object.AgeColumn[*schedulingv1beta1.Workload](),
		},
		PrepareCreate:  func(_ context.Context, w *schedulingv1beta1.Workload) { dropFromWorkload(&w.Spec) },
		PrepareUpdate:  func(_ context.Context, w, _ *schedulingv1beta1.Workload) { dropFromWorkload(&w.Spec) },
		Validate:       validateWorkload,
		ValidateUpdate: validateWorkloadUpdate,
	}.Definition()
}

// dropFromWorkload takes away what belongs to features that are off, as upstream
// does.
func dropFromWorkload(s *schedulingv1beta1.WorkloadSpec) {
	s.CompositePodGroupTemplates = nil
	for i := range s.PodGroupTemplates {
		t := &s.PodGroupTemplates[i]
		t.SchedulingConstraints, t.ResourceClaims, t.PreemptionPolicy = nil, nil, nil
	}
}
