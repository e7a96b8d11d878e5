package apps

import (
	appsv1 "k8s.io/api/apps/v1"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

func validateDaemonSet(d *appsv1.DaemonSet) field.ErrorList {
	s := &d.Spec
	errs := validateSelected(s.Selector, &s.Template, "daemonset")
	errs = append(errs, check.Nonnegative(specPath.Child("minReadySeconds"), s.MinReadySeconds)...)
	errs = append(errs, validateDaemonSetStrategy(&s.UpdateStrategy, specPath.Child("updateStrategy"))...)
	return append(errs, check.NonnegativePtr(specPath.Child("revisionHistoryLimit"), s.RevisionHistoryLimit)...)
}

func validateDaemonSetStrategy(s *appsv1.DaemonSetUpdateStrategy, path *field.Path) (errs field.ErrorList) {
	switch s.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
	case appsv1.RollingUpdateDaemonSetStrategyType:
		r, p := s.RollingUpdate, path.Child("rollingUpdate")
		if r == nil {
			return field.ErrorList{field.Required(p, "")}
		}
		unavailable, surge := orZero(r.MaxUnavailable), orZero(r.MaxSurge)
		errs = append(errs, check.PositiveIntOrPercent(p.Child("maxUnavailable"), unavailable)...)
		errs = append(errs, check.PositiveIntOrPercent(p.Child("maxSurge"), surge)...)
		errs = append(errs, check.AtMost100Percent(p.Child("maxUnavailable"), unavailable)...)
		errs = append(errs, check.AtMost100Percent(p.Child("maxSurge"), surge)...)
		none, noSurge := check.Zero(unavailable), check.Zero(surge)
		switch {
		case !none && !noSurge:
			errs = append(errs, field.Invalid(p.Child("maxSurge"), r.MaxSurge, "may not be set when maxUnavailable is non-zero"))
		case none && noSurge:
			errs = append(errs, field.Required(p.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0"))
		}
	default:
		errs = append(errs, field.NotSupported(path, *s, // upstream shows the whole
			[]appsv1.DaemonSetUpdateStrategyType{appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType}))
	}
	return errs
}

// validateDaemonSetUpdate finds what is wrong twice, as upstream does: once of any
// set, once of a changed one.
func validateDaemonSetUpdate(d, old *appsv1.DaemonSet) field.ErrorList {
	errs := append(validateDaemonSet(d), validateDaemonSet(d)...)
	return append(errs, check.Immutable(specPath.Child("selector"), d.Spec.Selector, old.Spec.Selector)...)
}

func validateDaemonSetStatus(d, old *appsv1.DaemonSet) (errs field.ErrorList) {
	s := &d.Status
	for _, f := range []struct {
		name string
		n    int64
	}{
		{"currentNumberScheduled", int64(s.CurrentNumberScheduled)}, {"numberMisscheduled", int64(s.NumberMisscheduled)},
		{"desiredNumberScheduled", int64(s.DesiredNumberScheduled)}, {"numberReady", int64(s.NumberReady)},
		{"observedGeneration", s.ObservedGeneration}, {"updatedNumberScheduled", int64(s.UpdatedNumberScheduled)},
		{"numberAvailable", int64(s.NumberAvailable)}, {"numberUnavailable", int64(s.NumberUnavailable)},
	} {
		errs = append(errs, check.Nonnegative(statusPath.Child(f.name), f.n)...)
	}
	errs = append(errs, check.NonnegativePtr(statusPath.Child("collisionCount"), s.CollisionCount)...)
	return append(errs, collisions(s.CollisionCount, old.Status.CollisionCount)...)
}

func daemonSetWarnings(d, old *appsv1.DaemonSet) []string {
	if old == nil {
		return templateWarnings(d.Name, &d.Spec.Template)
	}
	return changedWarnings(d.Spec, old.Spec, &d.Spec.Template)
}
