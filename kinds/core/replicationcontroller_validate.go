package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/labels"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/podspec"
)

// validateReplicationController puts last what upstream declares beside the type:
// the name and the numbers.
func validateReplicationController(r *corev1.ReplicationController) (errs field.ErrorList) {
	if len(r.Spec.Selector) == 0 {
		errs = append(errs, field.Required(specPath.Child("selector"), ""))
	}
	if r.Spec.Replicas == nil {
		errs = append(errs, field.Required(specPath.Child("replicas"), ""))
	}
	errs = append(errs, validateControllerTemplate(r)...)
	if r.Name != "" {
		errs = append(errs, check.Name(field.NewPath("metadata", "name"), r.Name, validation.NameIsDNSSubdomain)...)
	}
	errs = append(errs, check.NonnegativePtr(specPath.Child("replicas"), r.Spec.Replicas)...)
	return append(errs, check.Nonnegative(specPath.Child("minReadySeconds"), r.Spec.MinReadySeconds)...)
}

func validateControllerTemplate(r *corev1.ReplicationController) (errs field.ErrorList) {
	path, t := specPath.Child("template"), r.Spec.Template
	if t == nil {
		return append(errs, field.Required(path, ""))
	}
	if s := labels.Set(r.Spec.Selector).AsSelector(); !s.Empty() && !s.Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(path.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, podspec.ValidateTemplate(t, path)...)
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(path.Child("spec", "restartPolicy"), t.Spec.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(path.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicationController is not Supported"))
	}
	return errs
}

func validateReplicationControllerStatus(r, _ *corev1.ReplicationController) field.ErrorList {
	s, path := &r.Status, field.NewPath("status")
	errs := check.Nonnegative(path.Child("replicas"), s.Replicas)
	errs = append(errs, check.Nonnegative(path.Child("fullyLabeledReplicas"), s.FullyLabeledReplicas)...)
	errs = append(errs, check.Nonnegative(path.Child("readyReplicas"), s.ReadyReplicas)...)
	errs = append(errs, check.Nonnegative(path.Child("availableReplicas"), s.AvailableReplicas)...)
	errs = append(errs, check.Nonnegative(path.Child("observedGeneration"), s.ObservedGeneration)...)
	for _, f := range []struct {
		name string
		n    int32
	}{{"fullyLabeledReplicas", s.FullyLabeledReplicas}, {"readyReplicas", s.ReadyReplicas}, {"availableReplicas", s.AvailableReplicas}} {
		if f.n > s.Replicas {
			errs = append(errs, field.Invalid(path.Child(f.name), f.n, "cannot be greater than status.replicas"))
		}
	}
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	return errs
}

func replicationControllerWarnings(r, old *corev1.ReplicationController) []string {
	var out []string
	if old == nil {
		out = podspec.NameWarnings(r.Name, "Pod names and hostnames")
	}
	if r.Spec.Template == nil || old != nil && old.Generation == r.Generation {
		return out
	}
	return append(out, podspec.TemplateWarnings(r.Spec.Template, specPath.Child("template"))...)
}
