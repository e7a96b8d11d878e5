package core

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/podspec"
)

func validatePersistentVolumeClaim(c *corev1.PersistentVolumeClaim) field.ErrorList {
	return podspec.ValidateClaim(&c.Spec, specPath)
}

// validatePersistentVolumeClaimUpdate puts the old values back where changes
// are allowed, and refuses whatever then still differs: a claim that could be
// rewritten would slip past quotas and limits.
func validatePersistentVolumeClaimUpdate(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	errs := validatePersistentVolumeClaim(c)
	is, was := c.Spec.DeepCopy(), old.Spec.DeepCopy()
	if was.VolumeName == "" {
		was.VolumeName = is.VolumeName // bound, once
	}
	if was.StorageClassName == nil {
		was.StorageClassName = is.StorageClassName // the default class came later
	}
	if c.Status.Phase == corev1.ClaimBound && is.Resources.Requests != nil {
		if size, ok := was.Resources.Requests[corev1.ResourceStorage]; ok {
			is.Resources.Requests[corev1.ResourceStorage] = size
		}
	}
	is.VolumeAttributesClassName = was.VolumeAttributesClassName
	if !equality.Semantic.DeepEqual(is, was) {
		errs = append(errs, field.Forbidden(specPath,
			fmt.Sprintf("spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n%v", diff.Diff(is, was))))
	}
	p := specPath.Child("resources", "requests", "storage")
	now, before := c.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	have := old.Status.Capacity[corev1.ResourceStorage]
	// A request that could not be met may be taken back, down to what there is.
	if now.Cmp(before) < 0 && now.Cmp(have) <= 0 {
		errs = append(errs, field.Forbidden(p, "field can not be less than status.capacity"))
	}
	if o, n := old.Spec.VolumeAttributesClassName, c.Spec.VolumeAttributesClassName; o != nil && *o != "" && (n == nil || *n == "") {
		errs = append(errs, field.Forbidden(specPath.Child("volumeAttributesClassName"), "update from non-nil value to nil is forbidden"))
	}
	return errs
}

func validatePersistentVolumeClaimStatus(c, _ *corev1.PersistentVolumeClaim) (errs field.ErrorList) {
	for _, name := range slices.Sorted(maps.Keys(c.Status.Capacity)) {
		errs = append(errs, podspec.ValidateQuantity(string(name), c.Status.Capacity[name], field.NewPath("status", "capacity").Key(string(name)))...)
	}
	return errs
}

func persistentVolumeClaimWarnings(c, _ *corev1.PersistentVolumeClaim) (out []string) {
	for _, l := range []struct {
		name string
		list corev1.ResourceList
	}{{"requests", c.Spec.Resources.Requests}, {"limits", c.Spec.Resources.Limits}} {
		if q, ok := l.list[corev1.ResourceStorage]; ok && q.MilliValue()%1000 != 0 {
			out = append(out, fmt.Sprintf("%s: fractional byte value %q is invalid, must be an integer",
				specPath.Child("resources", l.name).Key(string(corev1.ResourceStorage)), q.String()))
		}
	}
	return out
}
