package scheduling

import (
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/fill"
	"sagong/object"
)

// PriorityClass defines scheduling.k8s.io/v1 PriorityClass.
func PriorityClass() *object.Definition {
	doc := schedulingv1.PriorityClass{}.SwaggerDoc()
	return object.Kind[*schedulingv1.PriorityClass]{
		Group: "scheduling.k8s.io", Version: "v1", Kind: "PriorityClass", Resource: "priorityclasses", ShortNames: []string{"pc"},
		Generation: true, NewGeneration: func(_, _ *schedulingv1.PriorityClass, _ bool) bool { return false },
		New:     func() *schedulingv1.PriorityClass { return &schedulingv1.PriorityClass{} },
		NewList: func() runtime.Object { return &schedulingv1.PriorityClassList{} },
		Columns: []object.TypedColumn[*schedulingv1.PriorityClass]{
			object.NameColumn[*schedulingv1.PriorityClass](),
			object.IntColumn("Value", doc["value"], func(c *schedulingv1.PriorityClass) int64 { return int64(c.Value) }),
			object.BoolColumn("Global-Default", doc["globalDefault"], func(c *schedulingv1.PriorityClass) bool { return c.GlobalDefault }),
			object.AgeColumn[*schedulingv1.PriorityClass](),
			object.StringColumn("PreemptionPolicy", doc["preemptionPolicy"], func(c *schedulingv1.PriorityClass) string {
				if c.PreemptionPolicy == nil {
					return string(corev1.PreemptLowerPriority)
				}
				return string(*c.PreemptionPolicy)
			}),
		},
		Default:        func(c *schedulingv1.PriorityClass) { fill.Ptr(&c.PreemptionPolicy, corev1.PreemptLowerPriority) },
		Validate:       validatePriorityClass,
		ValidateUpdate: validatePriorityClassUpdate,
	}.Definition()
}
