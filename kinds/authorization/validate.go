package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"

	"sagong/kinds/field"
)

var specPath = field.NewPath("spec")

func validateAttributes(r *authorizationv1.ResourceAttributes, n *authorizationv1.NonResourceAttributes) (errs field.ErrorList) {
	switch {
	case r != nil && n != nil:
		errs = append(errs, field.Invalid(specPath.Child("nonResourceAttributes"), n, "cannot be specified in combination with resourceAttributes"))
	case r == nil && n == nil:
		errs = append(errs, field.Invalid(specPath.Child("resourceAttributes"), r, "exactly one of nonResourceAttributes or resourceAttributes must be specified"))
	}
	if r == nil {
		return errs
	}
	// Operators that are not known yet are let pass: whoever decides may know them.
	if s := r.FieldSelector; s != nil {
		p := specPath.Child("resourceAttributes", "fieldSelector")
		errs = append(errs, validateSelectorForm(s.RawSelector, len(s.Requirements) > 0, p)...)
		for i, q := range s.Requirements {
			opts := metav1validation.FieldSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}
			errs = append(errs, metav1validation.ValidateFieldSelectorRequirement(q, opts, p.Child("requirements").Index(i).Upstream())...)
		}
	}
	if s := r.LabelSelector; s != nil {
		p := specPath.Child("resourceAttributes", "labelSelector")
		errs = append(errs, validateSelectorForm(s.RawSelector, len(s.Requirements) > 0, p)...)
		for i, q := range s.Requirements {
			opts := metav1validation.LabelSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}
			errs = append(errs, metav1validation.ValidateLabelSelectorRequirement(q, opts, p.Child("requirements").Index(i).Upstream())...)
		}
	}
	return errs
}

func validateSelectorForm(raw string, parsed bool, path *field.Path) field.ErrorList {
	switch {
	case raw != "" && parsed:
		return field.ErrorList{field.Invalid(path.Child("rawSelector"), raw, "may not specified at the same time as requirements")}
	case raw == "" && !parsed:
		return field.ErrorList{field.Required(path.Child("requirements"), "when "+path.String()+" is specified, requirements or rawSelector is required")}
	}
	return nil
}

func validateSubject(s *authorizationv1.SubjectAccessReviewSpec) field.ErrorList {
	errs := validateAttributes(s.ResourceAttributes, s.NonResourceAttributes)
	if s.User == "" && len(s.Groups) == 0 {
		errs = append(errs, field.Invalid(specPath.Child("user"), s.User, "at least one of user or group must be specified"))
	}
	return errs
}

// bareMeta refuses metadata, which a review has no use for.
func bareMeta(m *metav1.ObjectMeta, namespaced bool) field.ErrorList {
	given, text := *m, "must be empty"
	// What is the server's own is overlooked, as in every new object.
	given.UID, given.SelfLink, given.CreationTimestamp, given.DeletionTimestamp, given.DeletionGracePeriodSeconds = "", "", metav1.Time{}, nil, nil
	bare := given
	bare.ManagedFields = nil
	if namespaced {
		bare.Namespace, text = "", "must be empty except for namespace"
	}
	if !equality.Semantic.DeepEqual(bare, metav1.ObjectMeta{}) {
		return field.ErrorList{field.Invalid(field.NewPath("metadata"), given, text)}
	}
	return nil
}

func validateSubjectAccessReview(r *authorizationv1.SubjectAccessReview) field.ErrorList {
	return append(validateSubject(&r.Spec), bareMeta(&r.ObjectMeta, false)...)
}

func validateSelfSubjectAccessReview(r *authorizationv1.SelfSubjectAccessReview) field.ErrorList {
	return append(validateAttributes(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes), bareMeta(&r.ObjectMeta, false)...)
}

func validateLocalSubjectAccessReview(r *authorizationv1.LocalSubjectAccessReview) field.ErrorList {
	errs := append(validateSubject(&r.Spec), bareMeta(&r.ObjectMeta, true)...)
	p := specPath.Child("resourceAttributes", "namespace")
	if r.Spec.ResourceAttributes != nil && r.Spec.ResourceAttributes.Namespace != r.Namespace {
		errs = append(errs, field.Invalid(p, r.Spec.ResourceAttributes.Namespace, "must match metadata.namespace"))
	}
	if r.Spec.NonResourceAttributes != nil {
		errs = append(errs, field.Invalid(specPath.Child("nonResourceAttributes"), r.Spec.NonResourceAttributes, "disallowed on this kind of request"))
	}
	return errs
}
