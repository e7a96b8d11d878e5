package storage

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

const (
	maxParameters     = 512
	maxParametersSize = 256 << 10
)

func validateStorageClass(c *storagev1.StorageClass) field.ErrorList {
	return append(validateClass(c), check.Required(field.NewPath("provisioner"), c.Provisioner, "")...)
}

// validateClass checks all of a class but what upstream declares beside the type,
// which comes last.
func validateClass(c *storagev1.StorageClass) (errs field.ErrorList) {
	if c.Provisioner != "" {
		errs = append(errs, check.Rule(field.NewPath("provisioner"), strings.ToLower(c.Provisioner), check.IsQualifiedName)...)
	}
	errs = append(errs, validateParameters(c.Parameters, field.NewPath("parameters"), true)...)
	if c.ReclaimPolicy != nil && *c.ReclaimPolicy != "" {
		errs = append(errs, check.OneOf(field.NewPath("reclaimPolicy"), *c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)...)
	}
	if c.VolumeBindingMode == nil {
		errs = append(errs, field.Required(field.NewPath("volumeBindingMode"), ""))
	} else {
		errs = append(errs, check.OneOf(field.NewPath("volumeBindingMode"), *c.VolumeBindingMode, storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)...)
	}
	return append(errs, validateTopologies(c.AllowedTopologies, field.NewPath("allowedTopologies"))...)
}

// validateTopologies checks where volumes may be; terms that say the same of the same
// labels are one too many.
func validateTopologies(terms []corev1.TopologySelectorTerm, path *field.Path) (errs field.ErrorList) {
	var before []map[string]map[string]bool
	for i, term := range terms {
		all := map[string]map[string]bool{}
		path := path.Index(i).Child("matchLabelExpressions")
		for j, r := range term.MatchLabelExpressions {
			p, values := path.Index(j), map[string]bool{}
			if len(r.Values) == 0 {
				errs = append(errs, field.Required(p.Child("values"), ""))
			}
			for k, v := range r.Values {
				if values[v] {
					errs = append(errs, field.Duplicate(p.Child("values").Index(k), v))
				}
				values[v] = true
			}
			errs = append(errs, metav1validation.ValidateLabelName(r.Key, p.Child("key").Upstream())...)
			if all[r.Key] != nil {
				errs = append(errs, field.Duplicate(p.Child("key"), r.Key))
			}
			all[r.Key] = values
		}
		for _, other := range before {
			if equality.Semantic.DeepEqual(all, other) {
				errs = append(errs, field.Duplicate(path, ""))
			}
		}
		before = append(before, all)
	}
	return errs
}

func validateParameters(params map[string]string, path *field.Path, mayBeEmpty bool) (errs field.ErrorList) {
	if len(params) > maxParameters {
		return append(errs, field.TooLong(path, "", maxParameters))
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
	if len(params) == 0 && !mayBeEmpty {
		errs = append(errs, field.Required(path, "must contain at least one key/value pair"))
	}
	return errs
}

// validateStorageClassUpdate checks a changed class by the rules for a new one, and
// that what volumes are made by stays.
func validateStorageClassUpdate(c, old *storagev1.StorageClass) field.ErrorList {
	errs := validateClass(c)
	if c.Provisioner == "" {
		errs = append(errs, field.Required(field.NewPath("provisioner"), ""))
	}
	errs = append(errs, check.Declared(field.NewPath("provisioner"), c.Provisioner == old.Provisioner)...)
	errs = append(errs, check.Declared(field.NewPath("parameters"), equality.Semantic.DeepEqual(c.Parameters, old.Parameters))...)
	errs = append(errs, check.Declared(field.NewPath("reclaimPolicy"), equality.Semantic.DeepEqual(c.ReclaimPolicy, old.ReclaimPolicy))...)
	return append(errs, check.Declared(field.NewPath("volumeBindingMode"), equality.Semantic.DeepEqual(c.VolumeBindingMode, old.VolumeBindingMode))...)
}
