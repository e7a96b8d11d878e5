package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

func validateDeployment(d *appsv1.Deployment) field.ErrorList {
	s := &d.Spec
	errs := check.NonnegativePtr(specPath.Child("replicas"), s.Replicas)
	errs = append(errs, validateSelected(s.Selector, &s.Template, "deployment")...)
	errs = append(errs, validateDeploymentStrategy(&s.Strategy, specPath.Child("strategy"))...)
	errs = append(errs, check.Nonnegative(specPath.Child("minReadySeconds"), s.MinReadySeconds)...)
	errs = append(errs, check.NonnegativePtr(specPath.Child("revisionHistoryLimit"), s.RevisionHistoryLimit)...)
	if n := s.ProgressDeadlineSeconds; n != nil {
		p := specPath.Child("progressDeadlineSeconds")
		errs = append(errs, check.Nonnegative(p, *n)...)
		if *n <= s.MinReadySeconds {
			errs = append(errs, field.Invalid(p, *n, "must be greater than minReadySeconds"))
		}
	}
	return errs
}

func validateDeploymentStrategy(s *appsv1.DeploymentStrategy, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Type != appsv1.RecreateDeploymentStrategyType && s.Type != appsv1.RollingUpdateDeploymentStrategyType {
		return field.ErrorList{field.NotSupported(path, *s, // upstream shows the whole
			[]appsv1.DeploymentStrategyType{appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType})}
	}
	p, r := path.Child("rollingUpdate"), s.RollingUpdate
	switch {
	case s.Type == appsv1.RecreateDeploymentStrategyType:
		if r != nil {
			errs = append(errs, field.Forbidden(p, "may not be specified when strategy `type` is 'Recreate'"))
		}
	case r == nil:
		errs = append(errs, field.Required(p, "this should be defaulted and never be nil"))
	default:
		surge, unavailable := orZero(r.MaxSurge), orZero(r.MaxUnavailable)
		errs = append(errs, check.PositiveIntOrPercent(p.Child("maxUnavailable"), unavailable)...)
		errs = append(errs, check.PositiveIntOrPercent(p.Child("maxSurge"), surge)...)
		if check.Zero(surge) && check.Zero(unavailable) {
			errs = append(errs, field.Invalid(p.Child("maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0"))
		}
		errs = append(errs, check.AtMost100Percent(p.Child("maxUnavailable"), unavailable)...)
	}
	return errs
}

func orZero(v *intstr.IntOrString) intstr.IntOrString {
	if v == nil {
		return intstr.FromInt32(0)
	}
	return *v
}

func validateDeploymentUpdate(d, old *appsv1.Deployment) field.ErrorList {
	errs := validateDeployment(d)
	return append(errs, check.Immutable(specPath.Child("selector"), d.Spec.Selector, old.Spec.Selector)...)
}

func validateDeploymentStatus(d, old *appsv1.Deployment) field.ErrorList {
	s := &d.Status
	errs := check.Nonnegative(statusPath.Child("observedGeneration"), s.ObservedGeneration)
	errs = append(errs, check.Nonnegative(statusPath.Child("replicas"), s.Replicas)...)
	errs = append(errs, check.Nonnegative(statusPath.Child("updatedReplicas"), s.UpdatedReplicas)...)
	errs = append(errs, check.Nonnegative(statusPath.Child("readyReplicas"), s.ReadyReplicas)...)
	errs = append(errs, check.Nonnegative(statusPath.Child("availableReplicas"), s.AvailableReplicas)...)
	errs = append(errs, check.Nonnegative(statusPath.Child("unavailableReplicas"), s.UnavailableReplicas)...)
	errs = append(errs, check.NonnegativePtr(statusPath.Child("terminatingReplicas"), s.TerminatingReplicas)...)
	errs = append(errs, check.NonnegativePtr(statusPath.Child("collisionCount"), s.CollisionCount)...)
	const most = "cannot be greater than status.replicas"
	if s.UpdatedReplicas > s.Replicas {
		errs = append(errs, field.Invalid(statusPath.Child("updatedReplicas"), s.UpdatedReplicas, most))
	}
	if s.ReadyReplicas > s.Replicas {
		errs = append(errs, field.Invalid(statusPath.Child("readyReplicas"), s.ReadyReplicas, most))
	}
	if s.AvailableReplicas > s.Replicas {
		errs = append(errs, field.Invalid(statusPath.Child("availableReplicas"), s.AvailableReplicas, most))
	}
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(statusPath.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	return append(errs, collisions(s.CollisionCount, old.Status.CollisionCount)...)
}

// collisions checks that the count that makes names unique only grows.
func collisions(now, was *int32) field.ErrorList {
	n := int32(0)
	if now != nil {
		n = *now
	}
	if was == nil || now != nil && n >= *was {
		return nil
	}
	return field.ErrorList{field.Invalid(statusPath.Child("collisionCount"), n, "cannot be decremented")}
}

func deploymentWarnings(d, old *appsv1.Deployment) []string {
	if old == nil {
		return templateWarnings(d.Name, &d.Spec.Template)
	}
	return changedWarnings(d.Spec, old.Spec, &d.Spec.Template)
}
