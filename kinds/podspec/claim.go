package podspec

import (
	"fmt"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

// ValidateAccessModes checks how a volume may be mounted.
func ValidateAccessModes(modes []corev1.PersistentVolumeAccessMode, path *field.Path) (errs field.ErrorList) {
	known := false // one that is known, beside ReadWriteOncePod
	for _, m := range modes {
		bad := check.OneOf(path, m, corev1.ReadWriteOnce, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOncePod)
		errs = append(errs, bad...)
		known = known || len(bad) == 0 && m != corev1.ReadWriteOncePod
	}
	if known && slices.Contains(modes, corev1.ReadWriteOncePod) {
		errs = append(errs, field.Forbidden(path, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

// ValidateClaim checks the spec of a claim, standing alone or in a template.
func ValidateClaim(s *corev1.PersistentVolumeClaimSpec, path *field.Path) field.ErrorList {
	return validateClaim(s, nil, path)
}

// ValidateClaimUpdate is ValidateClaim for a claim that there is: what once was let
// pass of it, is.
func ValidateClaimUpdate(s, old *corev1.PersistentVolumeClaimSpec, path *field.Path) field.ErrorList {
	return validateClaim(s, old, path)
}

func validateClaim(s, old *corev1.PersistentVolumeClaimSpec, path *field.Path) (errs field.ErrorList) {
	if len(s.AccessModes) == 0 {
		errs = append(errs, field.Required(path.Child("accessModes"), "at least 1 access mode is required"))
	}
	if s.Selector != nil {
		o := metav1validation.LabelSelectorValidationOptions{}
		o.AllowInvalidLabelValueInSelector = old != nil && len(metav1validation.ValidateLabelSelector(old.Selector, o, nil)) > 0
		errs = append(errs, metav1validation.ValidateLabelSelector(s.Selector, o, path.Child("selector").Upstream())...)
	}
	errs = append(errs, ValidateAccessModes(s.AccessModes, path.Child("accessModes"))...)
	if size, ok := s.Resources.Requests[corev1.ResourceStorage]; !ok {
		errs = append(errs, field.Required(path.Child("resources").Key(string(corev1.ResourceStorage)), ""))
	} else if size.Sign() <= 0 {
		errs = append(errs, field.Invalid(path.Child("resources").Key(string(corev1.ResourceStorage)), size.String(), "must be greater than zero"))
	}
	if c := s.StorageClassName; c != nil && *c != "" {
		errs = append(errs, check.Name(path.Child("storageClassName"), *c, validation.NameIsDNSSubdomain)...)
	}
	if s.VolumeMode != nil {
		errs = append(errs, check.OneOf(path.Child("volumeMode"), *s.VolumeMode, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	}
	anyGroup := old != nil && (old.DataSource != nil && old.DataSource.APIGroup != nil || old.DataSourceRef != nil && old.DataSourceRef.APIGroup != nil)
	if d := s.DataSource; d != nil {
		errs = append(errs, validateSource(d.APIGroup, d.Kind, d.Name, anyGroup, path.Child("dataSource"))...)
	}
	elsewhere := false
	if d := s.DataSourceRef; d != nil {
		errs = append(errs, validateSource(d.APIGroup, d.Kind, d.Name, anyGroup, path.Child("dataSourceRef"))...)
		if d.Namespace != nil && *d.Namespace != "" {
			elsewhere = true
			errs = append(errs, check.Name(path.Child("dataSourceRef", "namespace"), *d.Namespace, validation.ValidateNamespaceName)...)
		}
	}
	if a, b := s.DataSource, s.DataSourceRef; a != nil && b != nil {
		switch {
		case elsewhere:
			errs = append(errs, field.Invalid(path, path.Child("dataSource"), "may not be specified when dataSourceRef.namespace is specified"))
		case !reflect.DeepEqual(a.APIGroup, b.APIGroup) || a.Kind != b.Kind || a.Name != b.Name:
			errs = append(errs, field.Invalid(path, path.Child("dataSource"), "must match dataSourceRef"))
		}
	}
	if c := s.VolumeAttributesClassName; c != nil && *c != "" {
		errs = append(errs, check.Name(path.Child("volumeAttributesClassName"), *c, validation.NameIsDNSSubdomain)...)
	}
	return errs
}

func validateSource(group *string, kind, name string, anyGroup bool, path *field.Path) field.ErrorList {
	errs := check.Required(path.Child("name"), name, "")
	errs = append(errs, check.Required(path.Child("kind"), kind, "")...)
	g := text(group)
	if g == "" && kind != "PersistentVolumeClaim" {
		errs = append(errs, field.Invalid(path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
	}
	if g != "" && !anyGroup {
		errs = append(errs, check.Rule(path.Child("apiGroup"), g, utilvalidation.IsDNS1123Subdomain)...)
	}
	return errs
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// ClaimWarnings returns what a client should know of the claim of a volume that it
// writes.
func ClaimWarnings(s *corev1.PersistentVolumeClaimSpec, path *field.Path) (out []string) {
	warn := func(path *field.Path, list corev1.ResourceList) {
		if q, ok := list[corev1.ResourceStorage]; ok && q.MilliValue()%1000 != 0 {
			out = append(out, fmt.Sprintf("%s: fractional byte value %q is invalid, must be an integer", path.Key(string(corev1.ResourceStorage)), q.String()))
		}
	}
	warn(path.Child("resources", "requests"), s.Resources.Requests)
	warn(path.Child("resources", "limits"), s.Resources.Limits)
	return out
}
