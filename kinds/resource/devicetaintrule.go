package resource

import (
	"context"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// DeviceTaintRule defines resource.k8s.io/v1 DeviceTaintRule.
func DeviceTaintRule() *object.Definition {
	taint := resourcev1.DeviceTaint{}.SwaggerDoc()
	return object.Kind[*resourcev1.DeviceTaintRule]{
		Group: "resource.k8s.io", Version: "v1", Kind: "DeviceTaintRule", Resource: "devicetaintrules", Generation: true, Status: true, StatusKeepsMetadata: true, RefuseUnconditionalUpdate: true,
		New:     func() *resourcev1.DeviceTaintRule { return &resourcev1.DeviceTaintRule{} },
		NewList: func() runtime.Object { return &resourcev1.DeviceTaintRuleList{} },
		Columns: []object.TypedColumn[*resourcev1.DeviceTaintRule]{
			object.NameColumn[*resourcev1.DeviceTaintRule](),
			object.StringColumn("Key", taint["key"], func(r *resourcev1.DeviceTaintRule) string { return r.Spec.Taint.Key }),
			object.StringColumn("Value", taint["value"], func(r *resourcev1.DeviceTaintRule) string { return r.Spec.Taint.Value }),
			object.StringColumn("Effect", taint["effect"], func(r *resourcev1.DeviceTaintRule) string { return string(r.Spec.Taint.Effect) }),
			object.TimeColumn("TimeAdded", taint["timeAdded"], func(r *resourcev1.DeviceTaintRule, now time.Time) string {
				if r.Spec.Taint.TimeAdded == nil {
					return ""
				}
				return object.Age(*r.Spec.Taint.TimeAdded, now)
			}),
			object.AgeColumn[*resourcev1.DeviceTaintRule](),
		},
		Default:       func(r *resourcev1.DeviceTaintRule) { defaultTaint(&r.Spec.Taint) },
		PrepareCreate: func(_ context.Context, r *resourcev1.DeviceTaintRule) { r.Status = resourcev1.DeviceTaintRuleStatus{} },
		// A change of the effect counts from now, unless the writer says since when.
		PrepareUpdate: func(_ context.Context, r, old *resourcev1.DeviceTaintRule) {
			if t, was := &r.Spec.Taint, &old.Spec.Taint; t.Effect != was.Effect && t.TimeAdded.Equal(was.TimeAdded) {
				t.TimeAdded = nil
				defaultTaint(t)
			}
		},
		Validate:             validateTaintRule,
		ValidateUpdate:       validateTaintRuleUpdate,
		ValidateStatusUpdate: validateTaintRuleStatus,
	}.Definition()
}
