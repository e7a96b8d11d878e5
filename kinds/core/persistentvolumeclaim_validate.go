package core

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/diff"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/podspec"
)

func validatePersistentVolumeClaim(c *corev1.PersistentVolumeClaim) field.ErrorList {
	return podspec.ValidateClaim(&c.Spec, specPath)
}

// validatePersistentVolumeClaimUpdate puts the old values back where changes
// are allowed, and refuses whatever then still differs: a claim that could be
// rewritten would slip past quotas and limits.
func validatePersistentVolumeClaimUpdate(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	errs := podspec.ValidateClaimUpdate(&c.Spec, &old.Spec, specPath)
	is, was := c.Spec.DeepCopy(), old.Spec.DeepCopy()
	if was.VolumeName == "" {
		was.VolumeName = is.VolumeName // bound, once
	}
	errs = append(errs, sameClass(c, old, is)...)
	bound := c.Status.Phase == corev1.ClaimBound
	if bound && is.Resources.Requests != nil {
		is.Resources.Requests[corev1.ResourceStorage] = was.Resources.Requests[corev1.ResourceStorage]
	}
	if bound {
		is.VolumeAttributesClassName = was.VolumeAttributesClassName
	}
	if !equality.Semantic.DeepEqual(is, was) {
		errs = append(errs, field.Forbidden(specPath,
			fmt.Sprintf("spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n%v", diff.Diff(*was, *is))))
	}
	p := specPath.Child("resources", "requests", "storage")
	now, before := c.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	have := old.Status.Capacity[corev1.ResourceStorage]
	// A request that could not be met may be taken back, down to what there is.
	if now.Cmp(before) < 0 && now.Cmp(have) <= 0 {
		errs = append(errs, field.Forbidden(p, "field can not be less than status.capacity"))
	}
	errs = append(errs, check.Immutable(field.NewPath("volumeMode"), c.Spec.VolumeMode, old.Spec.VolumeMode)...)
	if n := c.Spec.VolumeAttributesClassName; old.Status.CurrentVolumeAttributesClassName != nil && !same(n, old.Spec.VolumeAttributesClassName) {
		p := specPath.Child("volumeAttributesClassName")
		switch {
		case n == nil:
			errs = append(errs, field.Forbidden(p, "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil"))
		case *n == "":
			errs = append(errs, field.Forbidden(p, "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil"))
		}
	}
	return errs
}

// sameClass lets a claim get the class it has not: from the annotation which said
// it once, or any where none was said. In is it then puts the old one back.
func sameClass(c, old *corev1.PersistentVolumeClaim, is *corev1.PersistentVolumeClaimSpec) field.ErrorList {
	const key = corev1.BetaStorageClassAnnotation
	had, annotated := old.Annotations[key]
	has, still := c.Annotations[key]
	name := c.Spec.StorageClassName
	late := old.Spec.StorageClassName == nil && name != nil && (!annotated || *name == had)
	if late {
		is.StorageClassName = nil
	}
	if annotated && late && (!still || has == had) || has == had {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata", "annotations", key), has, validation.FieldImmutableErrorMsg)}
}

var resizeStatuses = []corev1.ClaimResourceStatus{
	corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
	corev1.PersistentVolumeClaimNodeResizePending, corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible,
}

func validatePersistentVolumeClaimStatus(c, _ *corev1.PersistentVolumeClaim) (errs field.ErrorList) {
	if len(c.Spec.AccessModes) == 0 {
		errs = append(errs, field.Required(field.NewPath("Spec", "accessModes"), ""))
	}
	path := field.NewPath("status")
	for _, name := range slices.Sorted(maps.Keys(c.Status.Capacity)) {
		errs = append(errs, basicQuantity(path.Child("capacity").Key(string(name)), c.Status.Capacity[name])...)
	}
	p := path.Child("allocatedResourceStatuses")
	for _, name := range slices.Sorted(maps.Keys(c.Status.AllocatedResourceStatuses)) {
		errs = append(errs, claimResource(p, name)...)
		if !slices.Contains(resizeStatuses, c.Status.AllocatedResourceStatuses[name]) {
			errs = append(errs, field.NotSupported(p, name, slices.Sorted(slices.Values(resizeStatuses)))) // upstream shows the resource
		}
	}
	p = path.Child("allocatedResources")
	for _, name := range slices.Sorted(maps.Keys(c.Status.AllocatedResources)) {
		bad := claimResource(p, name)
		if len(bad) == 0 {
			bad = basicQuantity(p.Key(string(name)), c.Status.AllocatedResources[name])
		}
		if len(bad) == 0 {
			bad = podspec.ValidateQuantity(string(corev1.ResourceStorage), c.Status.AllocatedResources[name], p.Key(string(name)))
		}
		errs = append(errs, bad...)
	}
	return errs
}

// claimResource checks what a claim is said to be given of.
func claimResource(path *field.Path, name corev1.ResourceName) field.ErrorList {
	errs := check.Rule(path, string(name), check.IsQualifiedName)
	if len(errs) == 0 && name != corev1.ResourceStorage && podspec.Native(string(name)) {
		errs = append(errs, field.NotSupported(path, string(name), []corev1.ResourceName{corev1.ResourceStorage}))
	}
	return errs
}

func persistentVolumeClaimWarnings(c, _ *corev1.PersistentVolumeClaim) []string {
	return podspec.ClaimWarnings(&c.Spec, specPath)
}
