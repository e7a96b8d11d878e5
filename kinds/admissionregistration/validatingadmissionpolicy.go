package admissionregistration

import (
	"context"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/kinds/fill"
	"sagong/object"
)

// ValidatingAdmissionPolicy defines admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy.
func ValidatingAdmissionPolicy() *object.Definition {
	return object.Kind[*admissionregistrationv1.ValidatingAdmissionPolicy]{
		Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingAdmissionPolicy",
		Resource: "validatingadmissionpolicies", Categories: []string{"api-extensions"}, Generation: true, Status: true, StatusKeepsMetadata: true, RefuseUnconditionalUpdate: true,
		New: func() *admissionregistrationv1.ValidatingAdmissionPolicy {
			return &admissionregistrationv1.ValidatingAdmissionPolicy{}
		},
		NewList: func() runtime.Object { return &admissionregistrationv1.ValidatingAdmissionPolicyList{} },
		Columns: []object.TypedColumn[*admissionregistrationv1.ValidatingAdmissionPolicy]{
			object.NameColumn[*admissionregistrationv1.ValidatingAdmissionPolicy](),
			object.IntColumn("Validations", "Validations indicates the number of validation rules defined in this configuration", func(p *admissionregistrationv1.ValidatingAdmissionPolicy) int64 {
				return int64(len(p.Spec.Validations))
			}),
			object.StringColumn("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy", func(p *admissionregistrationv1.ValidatingAdmissionPolicy) string { return paramKind(p.Spec.ParamKind) }),
			object.AgeColumn[*admissionregistrationv1.ValidatingAdmissionPolicy](),
		},
		Default: func(p *admissionregistrationv1.ValidatingAdmissionPolicy) {
			fill.Ptr(&p.Spec.FailurePolicy, admissionregistrationv1.Fail)
			defaultMatch(p.Spec.MatchConstraints)
		},
		PrepareCreate: func(_ context.Context, p *admissionregistrationv1.ValidatingAdmissionPolicy) {
			p.Status = admissionregistrationv1.ValidatingAdmissionPolicyStatus{}
		},
		Validate: func(o *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList {
			return validateValidatingPolicy(o, nil)
		},
		ValidateUpdate: func(o, old *admissionregistrationv1.ValidatingAdmissionPolicy) field.ErrorList {
			return validateValidatingPolicy(o, old)
		},
		ValidateStatusUpdate: validatePolicyStatus,
	}.Definition()
}
