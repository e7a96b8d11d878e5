package apps

import (
	appsv1 "k8s.io/api/apps/v1"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

func validateReplicaSet(r *appsv1.ReplicaSet) field.ErrorList {
	errs := check.NonnegativePtr(specPath.Child("replicas"), r.Spec.Replicas)
	errs = append(errs, check.Nonnegative(specPath.Child("minReadySeconds"), r.Spec.MinReadySeconds)...)
	// Upstream speaks of deployments here too.
	return append(errs, validateSelected(r.Spec.Selector, &r.Spec.Template, "deployment")...)
}

// validateReplicaSetUpdate finds what is wrong twice, as upstream does: once of any
// set, once of a changed one.
func validateReplicaSetUpdate(r, old *appsv1.ReplicaSet) field.ErrorList {
	errs := append(validateReplicaSet(r), validateReplicaSet(r)...)
	return append(errs, check.Immutable(specPath.Child("selector"), r.Spec.Selector, old.Spec.Selector)...)
}

func validateReplicaSetStatus(r, _ *appsv1.ReplicaSet) field.ErrorList {
	s := &r.Status
	errs := check.Nonnegative(statusPath.Child("replicas"), s.Replicas)
	errs = append(errs, check.Nonnegative(statusPath.Child("fullyLabeledReplicas"), s.FullyLabeledReplicas)...)
	errs = append(errs, check.Nonnegative(statusPath.Child("readyReplicas"), s.ReadyReplicas)...)
	errs = append(errs, check.Nonnegative(statusPath.Child("availableReplicas"), s.AvailableReplicas)...)
	errs = append(errs, check.Nonnegative(statusPath.Child("observedGeneration"), s.ObservedGeneration)...)
	errs = append(errs, check.NonnegativePtr(statusPath.Child("terminatingReplicas"), s.TerminatingReplicas)...)
	for _, f := range []struct {
		name string
		n    int32
	}{{"fullyLabeledReplicas", s.FullyLabeledReplicas}, {"readyReplicas", s.ReadyReplicas}, {"availableReplicas", s.AvailableReplicas}} {
		if f.n > s.Replicas {
			errs = append(errs, field.Invalid(statusPath.Child(f.name), f.n, "cannot be greater than status.replicas"))
		}
	}
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(statusPath.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	return errs
}

func replicaSetWarnings(r, old *appsv1.ReplicaSet) []string {
	if old == nil {
		return templateWarnings(r.Name, &r.Spec.Template)
	}
	return changedWarnings(r.Spec, old.Spec, &r.Spec.Template)
}
