package storage

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
)

const (
	maxParameters     = 512
	maxParametersSize = 256 << 10
)

func validateStorageClass(c *storagev1.StorageClass) field.ErrorList {
	errs := check.RequiredName(field.NewPath("provisioner"), strings.ToLower(c.Provisioner), utilvalidation.IsQualifiedName)
	errs = append(errs, validateParameters(c.Parameters, field.NewPath("parameters"), true)...)
	if c.ReclaimPolicy != nil {
		errs = append(errs, check.OneOf(field.NewPath("reclaimPolicy"), *c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)...)
	}
	if c.VolumeBindingMode == nil {
		errs = append(errs, field.Required(field.NewPath("volumeBindingMode"), ""))
	} else {
		errs = append(errs, check.OneOf(field.NewPath("volumeBindingMode"), *c.VolumeBindingMode, storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)...)
	}
	for i, term := range c.AllowedTopologies {
		p := field.NewPath("allowedTopologies").Index(i).Child("matchLabelExpressions")
		keys := map[string]bool{}
		for j, r := range term.MatchLabelExpressions {
			p := p.Index(j)
			errs = append(errs, metav1validation.ValidateLabelName(r.Key, p.Child("key"))...)
			if keys[r.Key] {
				errs = append(errs, field.Duplicate(p.Child("key"), r.Key))
			}
			keys[r.Key] = true
			if len(r.Values) == 0 {
				errs = append(errs, field.Required(p.Child("values"), ""))
			}
			seen := map[string]bool{}
			for k, v := range r.Values {
				if seen[v] {
					errs = append(errs, field.Duplicate(p.Child("values").Index(k), v))
				}
				seen[v] = true
			}
		}
		for _, other := range c.AllowedTopologies[:i] {
			if equality.Semantic.DeepEqual(other, term) {
				errs = append(errs, field.Duplicate(field.NewPath("allowedTopologies").Index(i).Child("matchLabelExpressions"), ""))
				break
			}
		}
	}
	return errs
}

func validateParameters(params map[string]string, path *field.Path, mayBeEmpty bool) (errs field.ErrorList) {
	if len(params) > maxParameters {
		return append(errs, field.TooLong(path, "Provisioner Parameters exceeded max allowed", maxParameters))
	}
	if len(params) == 0 && !mayBeEmpty {
		errs = append(errs, field.Required(path, "must contain at least one key/value pair"))
	}
	size := 0
	for k, v := range params {
		if k == "" {
			errs = append(errs, field.Invalid(path, k, "field can not be empty."))
		}
		size += len(k) + len(v)
	}
	if size > maxParametersSize {
		errs = append(errs, field.TooLong(path, "", maxParametersSize))
	}
	return errs
}

func validateStorageClassUpdate(c, old *storagev1.StorageClass) field.ErrorList {
	errs := validateStorageClass(c)
	if !equality.Semantic.DeepEqual(c.Parameters, old.Parameters) {
		errs = append(errs, field.Forbidden(field.NewPath("parameters"), "updates to parameters are forbidden."))
	}
	if c.Provisioner != old.Provisioner {
		errs = append(errs, field.Forbidden(field.NewPath("provisioner"), "updates to provisioner are forbidden."))
	}
	if c.ReclaimPolicy != nil && old.ReclaimPolicy != nil && *c.ReclaimPolicy != *old.ReclaimPolicy {
		errs = append(errs, field.Forbidden(field.NewPath("reclaimPolicy"), "updates to reclaimPolicy are forbidden."))
	}
	return append(errs, check.Immutable(field.NewPath("volumeBindingMode"), c.VolumeBindingMode, old.VolumeBindingMode)...)
}
