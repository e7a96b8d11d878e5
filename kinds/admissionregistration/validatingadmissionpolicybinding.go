package admissionregistration

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/object"
)

// ValidatingAdmissionPolicyBinding defines admissionregistration.k8s.io/v1 ValidatingAdmissionPolicyBinding.
func ValidatingAdmissionPolicyBinding() *object.Definition {
	return object.Kind[*admissionregistrationv1.ValidatingAdmissionPolicyBinding]{
		Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingAdmissionPolicyBinding",
		Resource: "validatingadmissionpolicybindings", Categories: []string{"api-extensions"}, Generation: true, RefuseUnconditionalUpdate: true,
		New: func() *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
			return &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}
		},
		NewList: func() runtime.Object { return &admissionregistrationv1.ValidatingAdmissionPolicyBindingList{} },
		Columns: []object.TypedColumn[*admissionregistrationv1.ValidatingAdmissionPolicyBinding]{
			object.NameColumn[*admissionregistrationv1.ValidatingAdmissionPolicyBinding](),
			object.StringColumn("PolicyName", "PolicyName indicates the policy definition which the policy binding binded to", func(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) string { return b.Spec.PolicyName }),
			object.StringColumn("ParamRef", "ParamRef indicates the param resource which sets the configuration param", func(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) string {
				return paramRef(b.Spec.ParamRef)
			}),
			object.AgeColumn[*admissionregistrationv1.ValidatingAdmissionPolicyBinding](),
		},
		Default: func(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) {
			defaultMatch(b.Spec.MatchResources)
		},
		Validate: validateValidatingBinding,
		ValidateUpdate: func(o, _ *admissionregistrationv1.ValidatingAdmissionPolicyBinding) field.ErrorList {
			return validateValidatingBinding(o)
		},
	}.Definition()
}
