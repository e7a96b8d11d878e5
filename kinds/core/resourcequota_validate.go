package core

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"sagong/kinds/field"
	"sagong/kinds/podspec"
)

func validateQuotaList(l corev1.ResourceList, path *field.Path) (errs field.ErrorList) {
	for _, name := range slices.Sorted(maps.Keys(l)) {
		p, s := path.Key(string(name)), string(name)
		errs = append(errs, podspec.ValidateName(s, p)...)
		if !strings.Contains(s, "/") && !quotaStandard(name) {
			errs = append(errs, field.Invalid(p, s, "must be a standard resource for quota"))
		}
		errs = append(errs, podspec.ValidateQuantity(s, l[name], p)...)
	}
	return errs
}

// quotaStandard says whether a name without a domain is one that quotas count:
// storage is only as what is requested of it.
func quotaStandard(name corev1.ResourceName) bool {
	return podspec.Standard(string(name)) && name != corev1.ResourceStorage
}

// podScopes are the scopes that choose pods, and so count only what pods use.
var podScopes = []corev1.ResourceQuotaScope{
	corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeTerminating,
	corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeCrossNamespacePodAffinity,
}

func scopeFits(scope corev1.ResourceQuotaScope, name corev1.ResourceName) bool {
	switch scope {
	case corev1.ResourceQuotaScopeBestEffort:
		return name == corev1.ResourcePods
	case corev1.ResourceQuotaScopeVolumeAttributesClass:
		return name == corev1.ResourcePersistentVolumeClaims || name == corev1.ResourceRequestsStorage
	}
	switch name {
	case corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory:
		return true
	}
	return false
}

// scopeErrors checks that there is such a scope, and that it can count what the
// quota limits; both are blamed at their own place.
func scopeErrors(scope corev1.ResourceQuotaScope, hard corev1.ResourceList, at, all *field.Path, shown, allShown any) (errs field.ErrorList) {
	if !slices.Contains(podScopes, scope) && scope != corev1.ResourceQuotaScopeVolumeAttributesClass {
		return field.ErrorList{field.Invalid(at, shown, "unsupported scope")}
	}
	for _, name := range slices.Sorted(maps.Keys(hard)) {
		if quotaStandard(name) && !scopeFits(scope, name) {
			errs = append(errs, field.Invalid(all, allShown, "unsupported scope applied to resource"))
		}
	}
	return errs
}

func validateScopes(q *corev1.ResourceQuota) (errs field.ErrorList) {
	conflicts := func(has []corev1.ResourceQuotaScope, p *field.Path) {
		for _, pair := range [][2]corev1.ResourceQuotaScope{
			{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort},
			{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating},
		} {
			if slices.Contains(has, pair[0]) && slices.Contains(has, pair[1]) {
				errs = append(errs, field.Invalid(p, q.Spec.Scopes, "conflicting scopes"))
			}
		}
	}
	p := specPath.Child("scopes")
	for _, scope := range q.Spec.Scopes {
		errs = append(errs, scopeErrors(scope, q.Spec.Hard, p, p, q.Spec.Scopes, q.Spec.Scopes)...)
	}
	conflicts(q.Spec.Scopes, p)
	if q.Spec.ScopeSelector == nil {
		return errs
	}
	// Upstream does not say which of the expressions it blames.
	p = specPath.Child("scopeSelector", "matchExpressions")
	var has []corev1.ResourceQuotaScope
	for _, r := range q.Spec.ScopeSelector.MatchExpressions {
		has = append(has, r.ScopeName)
		errs = append(errs, scopeErrors(r.ScopeName, q.Spec.Hard, p.Child("scopeName"), p, r.ScopeName, q.Spec.ScopeSelector)...)
		if slices.Contains(podScopes, r.ScopeName) && r.ScopeName != corev1.ResourceQuotaScopePriorityClass && r.Operator != corev1.ScopeSelectorOpExists {
			errs = append(errs, field.Invalid(p.Child("operator"), r.Operator,
				"must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"))
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
	conflicts(has, p)
	return errs
}

func validateResourceQuota(q *corev1.ResourceQuota) field.ErrorList {
	errs := validateQuotaList(q.Spec.Hard, specPath.Child("hard"))
	return append(errs, validateScopes(q)...)
}

func validateResourceQuotaUpdate(q, old *corev1.ResourceQuota) field.ErrorList {
	errs := validateResourceQuota(q)
	set := func(all []corev1.ResourceQuotaScope) []corev1.ResourceQuotaScope {
		return slices.Compact(slices.Sorted(slices.Values(all)))
	}
	if !slices.Equal(set(q.Spec.Scopes), set(old.Spec.Scopes)) {
		errs = append(errs, field.Invalid(specPath.Child("scopes"), q.Spec.Scopes, "field is immutable"))
	}
	return errs
}

func validateResourceQuotaStatus(q, _ *corev1.ResourceQuota) field.ErrorList {
	path := field.NewPath("status")
	errs := validateQuotaList(q.Status.Hard, path.Child("hard"))
	return append(errs, validateQuotaList(q.Status.Used, path.Child("used"))...)
}
