package storage

import (
	"context"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// VolumeAttachment defines storage.k8s.io/v1 VolumeAttachment.
func VolumeAttachment() *object.Definition {
	spec := storagev1.VolumeAttachmentSpec{}.SwaggerDoc()
	return object.Kind[*storagev1.VolumeAttachment]{
		Group: "storage.k8s.io", Version: "v1", Kind: "VolumeAttachment", Resource: "volumeattachments",
		Status: true, RefuseUnconditionalUpdate: true,
		New:     func() *storagev1.VolumeAttachment { return &storagev1.VolumeAttachment{} },
		NewList: func() runtime.Object { return &storagev1.VolumeAttachmentList{} },
		Columns: []object.TypedColumn[*storagev1.VolumeAttachment]{
			object.NameColumn[*storagev1.VolumeAttachment](),
			object.StringColumn("Attacher", spec["attacher"], func(a *storagev1.VolumeAttachment) string { return a.Spec.Attacher }),
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
		PrepareCreate: func(_ context.Context, a *storagev1.VolumeAttachment) { a.Status = storagev1.VolumeAttachmentStatus{} },
	}.Definition()
}
