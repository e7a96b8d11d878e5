package core

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

// validateKeys checks the keys of a map that a volume could make files of.
func validateKeys[V any](data map[string]V, path *field.Path) (errs field.ErrorList) {
	for _, k := range slices.Sorted(maps.Keys(data)) {
		errs = append(errs, check.Rule(path.Key(k), k, utilvalidation.IsConfigMapKey)...)
	}
	return errs
}

// tooLarge reports data above the limit that config maps and secrets share.
func tooLarge(path *field.Path, size int) field.ErrorList {
	if size > corev1.MaxSecretSize {
		return field.ErrorList{field.TooLong(path, "", corev1.MaxSecretSize)}
	}
	return nil
}

// frozen refuses changes of an object that its writer has made immutable.
func frozen(now, was *bool, parts ...frozenPart) (errs field.ErrorList) {
	if was == nil || !*was {
		return nil
	}
	const detail = "field is immutable when `immutable` is set"
	if now == nil || !*now {
		errs = append(errs, field.Forbidden(field.NewPath("immutable"), detail))
	}
	for _, p := range parts {
		if !equality.Semantic.DeepEqual(p.now, p.was) {
			errs = append(errs, field.Forbidden(field.NewPath(p.name), detail))
		}
	}
	return errs
}

type frozenPart struct {
	name     string
	now, was any
}
