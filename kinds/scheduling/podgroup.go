package scheduling

import (
	"context"

	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// PodGroup defines scheduling.k8s.io/v1beta1 PodGroup.
func PodGroup() *object.Definition {
	return object.Kind[*schedulingv1beta1.PodGroup]{
		Group: "scheduling.k8s.io", Version: "v1beta1", Kind: "PodGroup", Resource: "podgroups", Namespaced: true, Status: true, StatusKeepsMetadata: true,
		New:     func() *schedulingv1beta1.PodGroup { return &schedulingv1beta1.PodGroup{} },
		NewList: func() runtime.Object { return &schedulingv1beta1.PodGroupList{} },
		Columns: []object.TypedColumn[*schedulingv1beta1.PodGroup]{
			object.NameColumn[*schedulingv1beta1.PodGroup](),
			object.StringColumn("Policy", schedulingv1beta1.PodGroupSpec{}.SwaggerDoc()["schedulingPolicy"], func(g *schedulingv1beta1.PodGroup) string {
				if g.Spec.SchedulingPolicy.Gang != nil {
					return "Gang"
				}
				return "Basic"
			}),
			object.StringColumn("Workload", "Name of the referenced Workload object", func(g *schedulingv1beta1.PodGroup) string {
				if g.Spec.WorkloadRef == nil {
					return "<none>"
				}
				return g.Spec.WorkloadRef.WorkloadName
			}),
			object.StringColumn("Status", "Status of the PodGroup", groupStatus),
			object.AgeColumn[*schedulingv1beta1.PodGroup](),
		},
		Default: func(g *schedulingv1beta1.PodGroup) {
			if g.Spec.DisruptionMode == nil {
				g.Spec.DisruptionMode = &schedulingv1beta1.DisruptionMode{Single: &schedulingv1beta1.SingleDisruptionMode{}}
			}
		},
		PrepareCreate: func(_ context.Context, g *schedulingv1beta1.PodGroup) {
			g.Status = schedulingv1beta1.PodGroupStatus{}
			dropFromGroup(&g.Spec)
		},
		PrepareUpdate:        func(_ context.Context, g, _ *schedulingv1beta1.PodGroup) { dropFromGroup(&g.Spec) },
		PrepareStatusUpdate:  func(_ context.Context, g, _ *schedulingv1beta1.PodGroup) { g.Status.ResourceClaimStatuses = nil },
		Validate:             validateGroup,
		ValidateUpdate:       validateGroupUpdate,
		ValidateStatusUpdate: validateGroupStatus,
	}.Definition()
}

func groupStatus(g *schedulingv1beta1.PodGroup) string {
	if c := meta.FindStatusCondition(g.Status.Conditions, schedulingv1beta1.DisruptionTarget); c != nil {
		return c.Reason
	}
	switch c := meta.FindStatusCondition(g.Status.Conditions, schedulingv1beta1.PodGroupInitiallyScheduled); {
	case c == nil:
		return "Pending"
	case c.Status == metav1.ConditionTrue:
		return "Scheduled"
	}
	return "Unschedulable"
}

// dropFromGroup takes away what belongs to features that are off, as upstream
// does.
func dropFromGroup(s *schedulingv1beta1.PodGroupSpec) {
	s.ParentCompositePodGroupName, s.SchedulingConstraints, s.ResourceClaims, s.PreemptionPolicy = nil, nil, nil, nil
}
