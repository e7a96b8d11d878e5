package admissionregistration

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/kinds/fill"
	"sagong/object"
)

// MutatingAdmissionPolicy defines admissionregistration.k8s.io/v1 MutatingAdmissionPolicy.
func MutatingAdmissionPolicy() *object.Definition {
	return object.Kind[*admissionregistrationv1.MutatingAdmissionPolicy]{
		Group: "admissionregistration.k8s.io", Version: "v1", Kind: "MutatingAdmissionPolicy",
		Resource: "mutatingadmissionpolicies", Categories: []string{"api-extensions"}, Generation: true, RefuseUnconditionalUpdate: true,
		New: func() *admissionregistrationv1.MutatingAdmissionPolicy {
			return &admissionregistrationv1.MutatingAdmissionPolicy{}
		},
		NewList: func() runtime.Object { return &admissionregistrationv1.MutatingAdmissionPolicyList{} },
		Columns: []object.TypedColumn[*admissionregistrationv1.MutatingAdmissionPolicy]{
			object.NameColumn[*admissionregistrationv1.MutatingAdmissionPolicy](),
			object.IntColumn("Mutations", "Mutation indicates the number of mutations rules defined in this configuration", func(p *admissionregistrationv1.MutatingAdmissionPolicy) int64 { return int64(len(p.Spec.Mutations)) }),
			object.StringColumn("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy", func(p *admissionregistrationv1.MutatingAdmissionPolicy) string { return paramKind(p.Spec.ParamKind) }),
			object.AgeColumn[*admissionregistrationv1.MutatingAdmissionPolicy](),
		},
		Default: func(p *admissionregistrationv1.MutatingAdmissionPolicy) {
			fill.Ptr(&p.Spec.FailurePolicy, admissionregistrationv1.Fail)
			defaultMatch(p.Spec.MatchConstraints)
		},
		Validate: func(o *admissionregistrationv1.MutatingAdmissionPolicy) field.ErrorList {
			return validateMutatingPolicy(o, nil)
		},
		ValidateUpdate: func(o, old *admissionregistrationv1.MutatingAdmissionPolicy) field.ErrorList {
			return validateMutatingPolicy(o, old)
		},
	}.Definition()
}
