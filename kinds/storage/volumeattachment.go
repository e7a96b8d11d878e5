package storage

import (
	"context"
	"math"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/podspec"
	"sagong/object"
)

// VolumeAttachment defines storage.k8s.io/v1 VolumeAttachment.
func VolumeAttachment() *object.Definition {
	spec := storagev1.VolumeAttachmentSpec{}.SwaggerDoc()
	attacher := object.StringColumn("Attacher", spec["attacher"], func(a *storagev1.VolumeAttachment) string { return a.Spec.Attacher })
	attacher.Format = "name"
	return object.Kind[*storagev1.VolumeAttachment]{
		Group: "storage.k8s.io", Version: "v1", Kind: "VolumeAttachment", Resource: "volumeattachments",
		Status: true, StatusKeepsMetadata: true, RefuseUnconditionalUpdate: true,
		New:     func() *storagev1.VolumeAttachment { return &storagev1.VolumeAttachment{} },
		NewList: func() runtime.Object { return &storagev1.VolumeAttachmentList{} },
		Columns: []object.TypedColumn[*storagev1.VolumeAttachment]{
			object.NameColumn[*storagev1.VolumeAttachment](),
			attacher,
			object.StringColumn("PV", storagev1.VolumeAttachmentSource{}.SwaggerDoc()["persistentVolumeName"], func(a *storagev1.VolumeAttachment) string {
				if a.Spec.Source.PersistentVolumeName == nil {
					return ""
				}
				return *a.Spec.Source.PersistentVolumeName
			}),
			object.StringColumn("Node", spec["nodeName"], func(a *storagev1.VolumeAttachment) string { return a.Spec.NodeName }),
			object.BoolColumn("Attached", storagev1.VolumeAttachmentStatus{}.SwaggerDoc()["attached"], func(a *storagev1.VolumeAttachment) bool { return a.Status.Attached }),
			object.AgeColumn[*storagev1.VolumeAttachment](),
		},
		Default: func(a *storagev1.VolumeAttachment) {
			if s := a.Spec.Source.InlineVolumeSpec; s != nil {
				podspec.DefaultPersistent(s)
			}
		},
		PrepareCreate:        func(_ context.Context, a *storagev1.VolumeAttachment) { a.Status = storagev1.VolumeAttachmentStatus{} },
		Validate:             validateVolumeAttachment,
		ValidateUpdate:       validateVolumeAttachmentUpdate,
		ValidateStatusUpdate: validateVolumeAttachmentUpdate,
	}.Definition()
}

const (
	maxAttachmentMetadata = 256 << 10
	maxErrorMessage       = 1024
)

func validateVolumeAttachment(a *storagev1.VolumeAttachment) field.ErrorList {
	errs := validateAttachment(a)
	if pv := a.Spec.Source.PersistentVolumeName; pv != nil {
		errs = append(errs, check.Name(attachmentPath.Child("source", "persistentVolumeName"), *pv, validation.NameIsDNSSubdomain)...)
	}
	return append(errs, validateAttacher(a.Spec.Attacher)...)
}

var attachmentPath = field.NewPath("spec")

// validateAttachment checks what attachments of any version and age hold to.
func validateAttachment(a *storagev1.VolumeAttachment) (errs field.ErrorList) {
	source := attachmentPath.Child("source")
	inline, name := a.Spec.Source.InlineVolumeSpec, a.Spec.Source.PersistentVolumeName
	switch {
	case inline == nil && name == nil:
		errs = append(errs, field.Required(source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
	case inline != nil && name != nil:
		errs = append(errs, field.Forbidden(source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
	case name != nil && *name == "":
		errs = append(errs, field.Required(source.Child("persistentVolumeName"), "must specify non empty persistentVolumeName"))
	case inline != nil:
		errs = append(errs, validateInline(inline, source.Child("inlineVolumeSpec"))...)
	}
	errs = append(errs, check.Name(attachmentPath.Child("nodeName"), a.Spec.NodeName, validation.NameIsDNSSubdomain)...)
	return append(errs, validateAttachmentStatus(&a.Status, field.NewPath("status"))...)
}

// validateInline checks a volume that no object stands for.
func validateInline(s *corev1.PersistentVolumeSpec, path *field.Path) (errs field.ErrorList) {
	const inline = "may not be specified in the context of inline volumes"
	if s.ClaimRef != nil {
		errs = append(errs, field.Forbidden(path.Child("claimRef"), inline))
	}
	if len(s.Capacity) != 0 {
		errs = append(errs, field.Forbidden(path.Child("capacity"), inline))
	}
	if s.CSI == nil {
		errs = append(errs, field.Required(path.Child("csi"), "has to be specified in the context of inline volumes"))
	}
	if len(s.AccessModes) == 0 {
		errs = append(errs, field.Required(path.Child("accessModes"), ""))
	}
	return append(errs, podspec.ValidateAccessModes(s.AccessModes, path.Child("accessModes"))...)
}

// validateAttacher checks what upstream declares beside the type.
func validateAttacher(name string) (errs field.ErrorList) {
	p := attachmentPath.Child("attacher")
	if name == "" {
		return field.ErrorList{field.Required(p, "")}
	}
	if utf8.RuneCountInString(name) > 63 {
		errs = append(errs, field.TooLongCharacters(p, name, 63))
	}
	return append(errs, check.Rule(p, name, content.IsDNS1123SubdomainCaseless)...)
}

func validateAttachmentStatus(s *storagev1.VolumeAttachmentStatus, path *field.Path) (errs field.ErrorList) {
	size := 0
	for k, v := range s.AttachmentMetadata {
		size += len(k) + len(v)
	}
	if size > maxAttachmentMetadata {
		errs = append(errs, field.TooLong(path.Child("attachmentMetadata"), "", maxAttachmentMetadata))
	}
	for _, f := range []struct {
		name string
		err  *storagev1.VolumeError
	}{{"attachError", s.AttachError}, {"detachError", s.DetachError}} {
		if f.err == nil {
			continue
		}
		p := path.Child(f.name)
		if len(f.err.Message) > maxErrorMessage {
			errs = append(errs, field.TooLong(p.Child("message"), "", maxAttachmentMetadata)) // upstream names the other bound
		}
		if n := f.err.ErrorCode; n != nil && *n < 0 {
			errs = append(errs, field.Invalid(p.Child("errorCode"), *n, utilvalidation.InclusiveRangeError(0, math.MaxInt32)))
		}
	}
	return errs
}

// validateVolumeAttachmentUpdate finds what is wrong twice, as upstream does.
func validateVolumeAttachmentUpdate(a, old *storagev1.VolumeAttachment) field.ErrorList {
	errs := append(validateAttachment(a), validateAttachment(a)...)
	if equality.Semantic.DeepEqual(a.Spec, old.Spec) {
		return errs
	}
	errs = append(errs, check.Declared(attachmentPath, false)...)
	if a.Spec.Attacher != old.Spec.Attacher {
		errs = append(errs, validateAttacher(a.Spec.Attacher)...)
	}
	return errs
}
