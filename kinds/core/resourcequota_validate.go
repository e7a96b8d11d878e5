package core

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
	"sagong/kinds/podspec"
)

func validateQuotaList(l corev1.ResourceList, path *field.Path) (errs field.ErrorList) {
	for _, name := range slices.Sorted(maps.Keys(l)) {
		p, s := path.Key(string(name)), string(name)
		errs = append(errs, check.Rule(p, s, utilvalidation.IsQualifiedName)...)
		if !strings.Contains(s, "/") && (!podspec.Standard(s) || s == "storage" || strings.HasPrefix(s, corev1.ResourceHugePagesPrefix)) {
			errs = append(errs, field.Invalid(p, s, "must be a standard resource for quota"))
		}
		errs = append(errs, podspec.ValidateQuantity(s, l[name], p)...)
	}
	return errs
}

// The scopes a quota may have, with the resources each can count: all, or pods
// and what pods use.
var (
	podScopes   = []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeCrossNamespacePodAffinity}
	claimScopes = []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeVolumeAttributesClass}
)

func scopeFits(scope corev1.ResourceQuotaScope, name corev1.ResourceName) bool {
	switch scope {
	case corev1.ResourceQuotaScopeBestEffort:
		return name == corev1.ResourcePods
	case corev1.ResourceQuotaScopeVolumeAttributesClass:
		return name == corev1.ResourcePersistentVolumeClaims || strings.HasSuffix(string(name), "storage")
	}
	switch name {
	case corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage,
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage:
		return true
	}
	return strings.HasPrefix(string(name), corev1.DefaultResourceRequestsPrefix) && !strings.HasPrefix(string(name), "requests.storage")
}

func validateScopes(q *corev1.ResourceQuota) (errs field.ErrorList) {
	p := specPath.Child("scopes")
	has := map[corev1.ResourceQuotaScope]bool{}
	fits := func(scope corev1.ResourceQuotaScope, p *field.Path, value any) {
		if !slices.Contains(podScopes, scope) && !slices.Contains(claimScopes, scope) {
			errs = append(errs, field.Invalid(p, value, "unsupported scope"))
			return
		}
		for _, name := range slices.Sorted(maps.Keys(q.Spec.Hard)) {
			if podspec.Standard(string(name)) && !scopeFits(scope, name) {
				errs = append(errs, field.Invalid(p, value, "unsupported scope applied to resource"))
			}
		}
	}
	for _, scope := range q.Spec.Scopes {
		fits(scope, p, q.Spec.Scopes)
		has[scope] = true
	}
	for _, pair := range [][2]corev1.ResourceQuotaScope{
		{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort},
		{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating},
	} {
		if has[pair[0]] && has[pair[1]] {
			errs = append(errs, field.Invalid(p, q.Spec.Scopes, "conflicting scopes"))
		}
	}
	if q.Spec.ScopeSelector == nil {
		return errs
	}
	p = specPath.Child("scopeSelector", "matchExpressions")
	for i, r := range q.Spec.ScopeSelector.MatchExpressions {
		p := p.Index(i)
		fits(r.ScopeName, p.Child("scopeName"), r.ScopeName)
		switch r.ScopeName {
		case corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeVolumeAttributesClass:
		default:
			if r.Operator != corev1.ScopeSelectorOpExists {
				errs = append(errs, field.Invalid(p.Child("operator"), r.Operator,
					"must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"))
			}
		}
		switch r.Operator {
		case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
			if len(r.Values) == 0 {
				errs = append(errs, field.Required(p.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"))
			}
		case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
			if len(r.Values) != 0 {
				errs = append(errs, field.Invalid(p.Child("values"), r.Values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"))
			}
		default:
			errs = append(errs, field.Invalid(p.Child("operator"), r.Operator, "not a valid selector operator"))
		}
	}
	return errs
}

func validateResourceQuota(q *corev1.ResourceQuota) field.ErrorList {
	errs := validateQuotaList(q.Spec.Hard, specPath.Child("hard"))
	return append(errs, validateScopes(q)...)
}

func validateResourceQuotaUpdate(q, old *corev1.ResourceQuota) field.ErrorList {
	errs := validateResourceQuota(q)
	a, b := slices.Sorted(slices.Values(q.Spec.Scopes)), slices.Sorted(slices.Values(old.Spec.Scopes))
	if !slices.Equal(a, b) {
		errs = append(errs, field.Invalid(specPath.Child("scopes"), q.Spec.Scopes, "field is immutable"))
	}
	return errs
}

func validateResourceQuotaStatus(q, _ *corev1.ResourceQuota) field.ErrorList {
	path := field.NewPath("status")
	errs := validateQuotaList(q.Status.Hard, path.Child("hard"))
	return append(errs, validateQuotaList(q.Status.Used, path.Child("used"))...)
}
