package resource

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
	kindfield "sagong/kinds/field"
	"sagong/object"
)

var metadataPath = field.NewPath("metadata")

func (k *Kind) nameRule() validation.ValidateNameFunc {
	if k.NameRule != nil {
		return k.NameRule
	}
	return nameIsDNSSubdomain
}

// validateNew checks an object to be created.
func (e *Engine) validateNew(t Target, obj object.Object) error {
	if t.Virtual {
		if t.Validate == nil {
			return nil
		}
		if errs := t.Validate(obj); len(errs) > 0 {
			// Upstream asks the decoded review for its kind, which is not kept in it.
			return apierrors.NewInvalid(schema.GroupKind{Group: t.Group}, "", showInternal(errs))
		}
		return nil
	}
	var errs field.ErrorList
	name, prefix := obj.GetName(), obj.GetGenerateName()
	if name == "" || t.nameRule()(name, false) != nil || prefix != "" && t.nameRule()(prefix, true) != nil || !plainMetadata(obj, t.Namespaced) {
		errs = validation.ValidateObjectMetaAccessor(obj, t.Namespaced, t.nameRule(), metadataPath)
	}
	errs = append(errs, kubeFinalizers(t, obj)...)
	rule := t.Validate
	if v := t.served(); v != nil && v.Validate != nil {
		rule = v.Validate
	}
	if rule != nil {
		errs = append(errs, rule(obj)...)
	}
	return invalid(t, obj, errs)
}

// served is what is said of the version that was asked, when it is not that of the
// store.
func (t Target) served() *object.ServedVersion {
	if t.Version == nil {
		return nil
	}
	return t.Version.Served()
}

// validateUpdate checks a changed object; rule is the kind's own, for the main
// resource or a part of it.
func (e *Engine) validateUpdate(t Target, obj, old object.Object, rule func(obj, old object.Object) field.ErrorList) error {
	var errs field.ErrorList
	if obj.GetName() == "" || !plainMetadata(obj, t.Namespaced) || !plainChange(obj, old) {
		errs = validation.ValidateObjectMetaAccessor(obj, t.Namespaced, nameAccepted, metadataPath)
		errs = append(errs, validation.ValidateObjectMetaAccessorUpdate(obj, old, metadataPath)...)
	}
	errs = append(errs, kubeFinalizers(t, obj)...)
	errs = dedup(errs)
	if rule != nil {
		errs = append(errs, rule(obj, old)...)
	}
	return invalid(t, obj, errs)
}

// kubeFinalizers refuses finalizers that are in no domain and not Kubernetes' own.
// Upstream's newer groups do not look.
func kubeFinalizers(t Target, obj object.Object) (errs field.ErrorList) {
	if len(obj.GetFinalizers()) == 0 || t.Custom() {
		return nil
	}
	switch t.Group {
	case "admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "coordination.k8s.io":
		return nil
	}
	for i, f := range obj.GetFinalizers() {
		errs = append(errs, check.KubeFinalizer(kindfield.NewPath("metadata", "finalizers").Index(i), f)...)
	}
	return errs
}

// nameAccepted lets the name of an object that exists pass, as upstream does:
// rules may have become stricter since.
func nameAccepted(string, bool) []string { return nil }

func invalid(t Target, obj object.Object, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	name := obj.GetName()
	if name == "" {
		name = obj.GetGenerateName()
	}
	gk := t.gk()
	if t.Custom() {
		gk = obj.GetObjectKind().GroupVersionKind().GroupKind() // of which it says to be
	}
	return apierrors.NewInvalid(gk, name, showInternal(errs))
}

// dedup drops errors given twice: what is checked of new metadata is checked of
// changed metadata too.
func dedup(errs field.ErrorList) field.ErrorList {
	if len(errs) < 2 {
		return errs
	}
	seen := make(map[string]bool, len(errs))
	kept := errs[:0]
	for _, e := range errs {
		if text := e.Error(); !seen[text] {
			seen[text] = true
			kept = append(kept, e)
		}
	}
	return kept
}
