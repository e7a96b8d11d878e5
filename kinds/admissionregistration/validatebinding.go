package admissionregistration

import (
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

func validatePolicyBinding(policy string, r *admissionregistrationv1.ParamRef, m *admissionregistrationv1.MatchResources) field.ErrorList {
	p := field.NewPath("spec")
	var errs field.ErrorList
	if policy != "" {
		errs = check.Rule(p.Child("policyName"), policy, utilvalidation.IsDNS1123Subdomain)
	}
	errs = append(errs, validateParamRef(r, p.Child("paramRef"))...)
	if m != nil {
		errs = append(errs, validateMatch(m, p.Child("matchResources"))...)
	}
	return errs
}

func validateValidatingBinding(b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) field.ErrorList {
	errs := validatePolicyBinding(b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources)
	p := field.NewPath("spec", "validationActions")
	for i, a := range b.Spec.ValidationActions {
		errs = append(errs, check.OneOf(p.Index(i), a, admissionregistrationv1.Audit, admissionregistrationv1.Deny, admissionregistrationv1.Warn)...)
		if slices.Contains(b.Spec.ValidationActions[:i], a) {
			errs = append(errs, field.Duplicate(p.Index(i), a))
		}
	}
	if slices.Contains(b.Spec.ValidationActions, admissionregistrationv1.Deny) && slices.Contains(b.Spec.ValidationActions, admissionregistrationv1.Warn) {
		errs = append(errs, field.Invalid(p, b.Spec.ValidationActions, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"))
	}
	// What follows upstream declares beside the type.
	errs = append(errs, check.Required(field.NewPath("spec", "policyName"), b.Spec.PolicyName, "")...)
	if len(b.Spec.ValidationActions) == 0 {
		errs = append(errs, field.Required(p, ""))
	}
	return errs
}

func validateMutatingBinding(b *admissionregistrationv1.MutatingAdmissionPolicyBinding) field.ErrorList {
	errs := check.Required(field.NewPath("spec", "policyName"), b.Spec.PolicyName, "")
	errs = append(errs, validatePolicyBinding(b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources)...)
	return append(errs, validateMutable(b.Spec.MatchResources, field.NewPath("spec", "matchResources"))...)
}
