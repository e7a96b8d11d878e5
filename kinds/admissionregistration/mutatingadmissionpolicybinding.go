package admissionregistration

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/object"
)

// MutatingAdmissionPolicyBinding defines admissionregistration.k8s.io/v1 MutatingAdmissionPolicyBinding.
func MutatingAdmissionPolicyBinding() *object.Definition {
	return object.Kind[*admissionregistrationv1.MutatingAdmissionPolicyBinding]{
		Group: "admissionregistration.k8s.io", Version: "v1", Kind: "MutatingAdmissionPolicyBinding",
		Resource: "mutatingadmissionpolicybindings", Categories: []string{"api-extensions"}, Generation: true, RefuseUnconditionalUpdate: true,
		New: func() *admissionregistrationv1.MutatingAdmissionPolicyBinding {
			return &admissionregistrationv1.MutatingAdmissionPolicyBinding{}
		},
		NewList: func() runtime.Object { return &admissionregistrationv1.MutatingAdmissionPolicyBindingList{} },
		Columns: []object.TypedColumn[*admissionregistrationv1.MutatingAdmissionPolicyBinding]{
			object.NameColumn[*admissionregistrationv1.MutatingAdmissionPolicyBinding](),
			object.StringColumn("PolicyName", "PolicyName indicates the policy definition which the policy binding binded to", func(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) string { return b.Spec.PolicyName }),
			object.StringColumn("ParamRef", "ParamRef indicates the param resource which sets the configuration param", func(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) string {
				return paramRef(b.Spec.ParamRef)
			}),
			object.AgeColumn[*admissionregistrationv1.MutatingAdmissionPolicyBinding](),
		},
		Default: func(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) {
			defaultMatch(b.Spec.MatchResources)
		},
		Validate: validateMutatingBinding,
		ValidateUpdate: func(o, _ *admissionregistrationv1.MutatingAdmissionPolicyBinding) field.ErrorList {
			return validateMutatingBinding(o)
		},
	}.Definition()
}
