package storage

import (
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// VolumeAttributesClass defines storage.k8s.io/v1 VolumeAttributesClass.
func VolumeAttributesClass() *object.Definition {
	return object.Kind[*storagev1.VolumeAttributesClass]{
		Group: "storage.k8s.io", Version: "v1", Kind: "VolumeAttributesClass", Resource: "volumeattributesclasses", ShortNames: []string{"vac"},
		New:     func() *storagev1.VolumeAttributesClass { return &storagev1.VolumeAttributesClass{} },
		NewList: func() runtime.Object { return &storagev1.VolumeAttributesClassList{} },
		Columns: []object.TypedColumn[*storagev1.VolumeAttributesClass]{
			object.NameColumn[*storagev1.VolumeAttributesClass](),
			object.StringColumn("DriverName", storagev1.VolumeAttributesClass{}.SwaggerDoc()["driverName"], func(c *storagev1.VolumeAttributesClass) string { return c.DriverName }),
			object.AgeColumn[*storagev1.VolumeAttributesClass](),
		},
	}.Definition()
}
