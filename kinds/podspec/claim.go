package podspec

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
)

// ValidateAccessModes checks how a volume may be mounted.
func ValidateAccessModes(modes []corev1.PersistentVolumeAccessMode, path *field.Path) (errs field.ErrorList) {
	for _, m := range modes {
		errs = append(errs, check.OneOf(path, m, corev1.ReadWriteOnce, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOncePod)...)
	}
	if len(modes) > 1 && slices.Contains(modes, corev1.ReadWriteOncePod) {
		errs = append(errs, field.Forbidden(path, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

// ValidateClaim checks the spec of a claim, standing alone or in a template.
func ValidateClaim(s *corev1.PersistentVolumeClaimSpec, path *field.Path) (errs field.ErrorList) {
	if len(s.AccessModes) == 0 {
		errs = append(errs, field.Required(path.Child("accessModes"), "at least 1 access mode is required"))
	}
	errs = append(errs, metav1validation.ValidateLabelSelector(s.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
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
	if d := s.DataSource; d != nil {
		errs = append(errs, validateSource(d.APIGroup, d.Kind, d.Name, path.Child("dataSource"))...)
	}
	if d := s.DataSourceRef; d != nil {
		errs = append(errs, validateSource(d.APIGroup, d.Kind, d.Name, path.Child("dataSourceRef"))...)
		if d.Namespace != nil && *d.Namespace != "" {
			errs = append(errs, check.Name(path.Child("dataSourceRef", "namespace"), *d.Namespace, validation.ValidateNamespaceName)...)
		}
	}
	if a, b := s.DataSource, s.DataSourceRef; a != nil && b != nil && (b.Namespace == nil || *b.Namespace == "") {
		if text(a.APIGroup) != text(b.APIGroup) || a.Kind != b.Kind || a.Name != b.Name {
			errs = append(errs, field.Invalid(path, path.Child("dataSource"), "must match dataSourceRef"))
		}
	}
	if c := s.VolumeAttributesClassName; c != nil && *c != "" {
		errs = append(errs, check.Name(path.Child("volumeAttributesClassName"), *c, validation.NameIsDNSSubdomain)...)
	}
	return errs
}

func validateSource(group *string, kind, name string, path *field.Path) field.ErrorList {
	errs := check.Required(path.Child("name"), name, "")
	errs = append(errs, check.Required(path.Child("kind"), kind, "")...)
	g := text(group)
	if g == "" && kind != "PersistentVolumeClaim" {
		errs = append(errs, field.Invalid(path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
	}
	if g != "" {
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
