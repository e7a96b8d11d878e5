package storage

import (
	"context"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
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
		PrepareCreate:  func(_ context.Context, a *storagev1.VolumeAttachment) { a.Status = storagev1.VolumeAttachmentStatus{} },
		Validate:       validateVolumeAttachment,
		ValidateUpdate: validateVolumeAttachmentUpdate,
	}.Definition()
}

func validateVolumeAttachment(a *storagev1.VolumeAttachment) field.ErrorList {
	p := field.NewPath("spec")
	errs := podspec.ValidateDriverName(a.Spec.Attacher, p.Child("attacher"))
	inline, named := a.Spec.Source.InlineVolumeSpec != nil, a.Spec.Source.PersistentVolumeName != nil
	source := p.Child("source")
	switch {
	case inline && named:
		errs = append(errs, field.Forbidden(source.Child("persistentVolumeName"), "must not be specified when inlineVolumeSpec is specified"))
	case named:
		errs = append(errs, check.RequiredName(source.Child("persistentVolumeName"), *a.Spec.Source.PersistentVolumeName, utilvalidation.IsDNS1123Subdomain)...)
	case !inline:
		errs = append(errs, field.Required(source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
	case a.Spec.Source.InlineVolumeSpec.CSI == nil:
		errs = append(errs, field.Required(source.Child("inlineVolumeSpec", "csi"), ""))
	}
	return append(errs, check.RequiredName(p.Child("nodeName"), a.Spec.NodeName, utilvalidation.IsDNS1123Subdomain)...)
}

func validateVolumeAttachmentUpdate(a, old *storagev1.VolumeAttachment) field.ErrorList {
	if !equality.Semantic.DeepEqual(a.Spec, old.Spec) {
		return field.ErrorList{field.Invalid(field.NewPath("spec"), a.Spec, "field is immutable")}
	}
	return nil
}
