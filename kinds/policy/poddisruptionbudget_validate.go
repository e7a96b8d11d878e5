package policy

import (
	policyv1 "k8s.io/api/policy/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

func validateBudget(b *policyv1.PodDisruptionBudget) (errs field.ErrorList) {
	s, path := &b.Spec, field.NewPath("spec")
	if s.MinAvailable != nil && s.MaxUnavailable != nil {
		errs = append(errs, field.Invalid(path, *s, "minAvailable and maxUnavailable cannot be both set"))
	}
	if v := s.MinAvailable; v != nil {
		errs = append(errs, check.PositiveIntOrPercent(path.Child("minAvailable"), *v)...)
		errs = append(errs, check.AtMost100Percent(path.Child("minAvailable"), *v)...)
	}
	if v := s.MaxUnavailable; v != nil {
		errs = append(errs, check.PositiveIntOrPercent(path.Child("maxUnavailable"), *v)...)
		errs = append(errs, check.AtMost100Percent(path.Child("maxUnavailable"), *v)...)
	}
	errs = append(errs, metav1validation.ValidateLabelSelector(s.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector").Upstream())...)
	if p := s.UnhealthyPodEvictionPolicy; p != nil {
		errs = append(errs, check.OneOf(path.Child("unhealthyPodEvictionPolicy"), *p, policyv1.IfHealthyBudget, policyv1.AlwaysAllow)...)
	}
	return errs
}

func validateBudgetStatus(b, _ *policyv1.PodDisruptionBudget) (errs field.ErrorList) {
	p, s := field.NewPath("status"), &b.Status
	errs = append(errs, metav1validation.ValidateConditions(s.Conditions, p.Child("conditions").Upstream())...)
	errs = append(errs, check.Nonnegative(p.Child("disruptionsAllowed"), s.DisruptionsAllowed)...)
	errs = append(errs, check.Nonnegative(p.Child("currentHealthy"), s.CurrentHealthy)...)
	errs = append(errs, check.Nonnegative(p.Child("desiredHealthy"), s.DesiredHealthy)...)
	return append(errs, check.Nonnegative(p.Child("expectedPods"), s.ExpectedPods)...)
}
