package flowcontrol

import (
	"cmp"
	"context"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/kinds/fill"
	"sagong/object"
)

// FlowSchema defines flowcontrol.apiserver.k8s.io/v1 FlowSchema.
func FlowSchema() *object.Definition {
	return object.Kind[*flowcontrolv1.FlowSchema]{
		Group: "flowcontrol.apiserver.k8s.io", Version: "v1", Kind: "FlowSchema",
		Resource: "flowschemas", Generation: true, Status: true, StatusKeepsMetadata: true, RefuseUnconditionalUpdate: true,
		New:     func() *flowcontrolv1.FlowSchema { return &flowcontrolv1.FlowSchema{} },
		NewList: func() runtime.Object { return &flowcontrolv1.FlowSchemaList{} },
		Columns: []object.TypedColumn[*flowcontrolv1.FlowSchema]{
			object.NameColumn[*flowcontrolv1.FlowSchema](),
			object.StringColumn("PriorityLevel", flowcontrolv1.PriorityLevelConfigurationReference{}.SwaggerDoc()["name"], func(s *flowcontrolv1.FlowSchema) string { return s.Spec.PriorityLevelConfiguration.Name }),
			object.IntColumn("MatchingPrecedence", flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()["matchingPrecedence"], func(s *flowcontrolv1.FlowSchema) int64 { return int64(s.Spec.MatchingPrecedence) }).Text(),
			object.StringColumn("DistinguisherMethod", flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()["distinguisherMethod"], func(s *flowcontrolv1.FlowSchema) string {
				if s.Spec.DistinguisherMethod == nil {
					return "<none>"
				}
				return string(s.Spec.DistinguisherMethod.Type)
			}),
			object.AgeColumn[*flowcontrolv1.FlowSchema](),
			object.StringColumn("MissingPL", "references a broken or non-existent PriorityLevelConfiguration", func(s *flowcontrolv1.FlowSchema) string {
				for _, c := range s.Status.Conditions {
					if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
						return string(c.Status)
					}
				}
				return "?"
			}),
		},
		// In the order in which they are asked.
		RowOrder: func(a, b *flowcontrolv1.FlowSchema) int {
			return cmp.Or(cmp.Compare(a.Spec.MatchingPrecedence, b.Spec.MatchingPrecedence), strings.Compare(a.Name, b.Name))
		},
		Default: func(s *flowcontrolv1.FlowSchema) {
			fill.Zero(&s.Spec.MatchingPrecedence, 1000)
		},
		PrepareCreate:        func(_ context.Context, s *flowcontrolv1.FlowSchema) { s.Status = flowcontrolv1.FlowSchemaStatus{} },
		Validate:             validateFlowSchema,
		ValidateUpdate:       func(o, _ *flowcontrolv1.FlowSchema) field.ErrorList { return validateFlowSchema(o) },
		ValidateStatusUpdate: func(o, _ *flowcontrolv1.FlowSchema) field.ErrorList { return validateFlowSchemaStatus(&o.Status) },
	}.Definition()
}
