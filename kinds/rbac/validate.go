package rbac

import (
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

func validateRules(rules []rbacv1.PolicyRule, namespaced bool) (errs field.ErrorList) {
	for i, r := range rules {
		p := field.NewPath("rules").Index(i)
		if len(r.NonResourceURLs) > 0 {
			if namespaced {
				errs = append(errs, field.Invalid(p.Child("nonResourceURLs"), r.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs"))
			}
			if len(r.APIGroups) > 0 || len(r.Resources) > 0 || len(r.ResourceNames) > 0 {
				errs = append(errs, field.Invalid(p.Child("nonResourceURLs"), r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
			}
			continue
		}
		if len(r.APIGroups) == 0 {
			errs = append(errs, field.Required(p.Child("apiGroups"), "resource rules must supply at least one api group"))
		}
		if len(r.Resources) == 0 {
			errs = append(errs, field.Required(p.Child("resources"), "resource rules must supply at least one resource"))
		}
	}
	return errs
}

// needVerbs is what upstream declares beside the type, which comes last.
func needVerbs(rules []rbacv1.PolicyRule) (errs field.ErrorList) {
	for i, r := range rules {
		if len(r.Verbs) == 0 {
			errs = append(errs, field.Required(field.NewPath("rules").Index(i).Child("verbs"), ""))
		}
	}
	return errs
}

func validateRole(r *rbacv1.Role) field.ErrorList {
	return append(validateRules(r.Rules, true), needVerbs(r.Rules)...)
}

func validateClusterRole(r *rbacv1.ClusterRole) field.ErrorList {
	errs := validateRules(r.Rules, false)
	if r.AggregationRule != nil {
		errs = append(errs, validateSelectors(r.AggregationRule.ClusterRoleSelectors, field.NewPath("aggregationRule", "clusterRoleSelectors"))...)
	}
	return append(errs, needVerbs(r.Rules)...)
}

func validateSelectors(all []metav1.LabelSelector, p *field.Path) (errs field.ErrorList) {
	if len(all) == 0 {
		errs = append(errs, field.Required(p, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
	}
	for i := range all {
		errs = append(errs, metav1validation.ValidateLabelSelector(&all[i], metav1validation.LabelSelectorValidationOptions{}, p.Index(i).Upstream())...)
		if selector, err := metav1.LabelSelectorAsSelector(&all[i]); err != nil {
			errs = append(errs, field.Invalid(p.Index(i), selector, "invalid label selector."))
		}
	}
	return errs
}

func validateBinding(ref rbacv1.RoleRef, subjects []rbacv1.Subject, kinds []string, namespaced bool) (errs field.ErrorList) {
	p := field.NewPath("roleRef")
	if ref.APIGroup != rbacv1.GroupName {
		errs = append(errs, field.NotSupported(p.Child("apiGroup"), ref.APIGroup, []string{rbacv1.GroupName}))
	}
	if !slices.Contains(kinds, ref.Kind) {
		errs = append(errs, field.NotSupported(p.Child("kind"), ref.Kind, kinds))
	}
	if ref.Name != "" {
		errs = append(errs, check.Rule(p.Child("name"), ref.Name, path.IsValidPathSegmentName)...)
	}
	for i, s := range subjects {
		errs = append(errs, validateSubject(s, namespaced, field.NewPath("subjects").Index(i))...)
	}
	return errs
}

// needNames is what upstream declares beside the types of bindings, which comes last.
func needNames(ref rbacv1.RoleRef, subjects []rbacv1.Subject) (errs field.ErrorList) {
	for i, s := range subjects {
		errs = append(errs, check.Required(field.NewPath("subjects").Index(i).Child("name"), s.Name, "")...)
	}
	return append(errs, check.Required(field.NewPath("roleRef", "name"), ref.Name, "")...)
}

func validateSubject(s rbacv1.Subject, namespaced bool, p *field.Path) (errs field.ErrorList) {
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		if s.Name != "" {
			errs = append(errs, check.Name(p.Child("name"), s.Name, validation.ValidateServiceAccountName)...)
		}
		if s.APIGroup != "" {
			errs = append(errs, field.NotSupported(p.Child("apiGroup"), s.APIGroup, []string{""}))
		}
		if !namespaced && s.Namespace == "" {
			errs = append(errs, field.Required(p.Child("namespace"), ""))
		}
	case rbacv1.UserKind, rbacv1.GroupKind:
		if s.APIGroup != rbacv1.GroupName {
			errs = append(errs, field.NotSupported(p.Child("apiGroup"), s.APIGroup, []string{rbacv1.GroupName}))
		}
	default:
		errs = append(errs, field.NotSupported(p.Child("kind"), s.Kind, []string{rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind}))
	}
	return errs
}

// validateRoleBinding checks a binding; old is nil for a new one.
func validateRoleBinding(b, old *rbacv1.RoleBinding) field.ErrorList {
	errs := validateBinding(b.RoleRef, b.Subjects, []string{"Role", "ClusterRole"}, true)
	if old != nil {
		errs = append(errs, sameRole(b.RoleRef, old.RoleRef)...)
	}
	return append(errs, needNames(b.RoleRef, b.Subjects)...)
}

// validateClusterRoleBinding is validateRoleBinding for bindings of the whole cluster.
func validateClusterRoleBinding(b, old *rbacv1.ClusterRoleBinding) field.ErrorList {
	errs := validateBinding(b.RoleRef, b.Subjects, []string{"ClusterRole"}, false)
	if old != nil {
		errs = append(errs, sameRole(b.RoleRef, old.RoleRef)...)
	}
	return append(errs, needNames(b.RoleRef, b.Subjects)...)
}

// sameRole refuses that a binding is turned towards another role: who may give
// subjects need not be allowed to give rights.
func sameRole(now, was rbacv1.RoleRef) field.ErrorList {
	if now != was {
		return field.ErrorList{field.Invalid(field.NewPath("roleRef"), now, "cannot change roleRef")}
	}
	return nil
}
