package storage

import (
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/object"
)

// VolumeAttributesClass defines storage.k8s.io/v1 VolumeAttributesClass.
func VolumeAttributesClass() *object.Definition {
	return object.Kind[*storagev1.VolumeAttributesClass]{
		Group: "storage.k8s.io", Version: "v1", Kind: "VolumeAttributesClass",
		Resource: "volumeattributesclasses", ShortNames: []string{"vac"},
		New:     func() *storagev1.VolumeAttributesClass { return &storagev1.VolumeAttributesClass{} },
		NewList: func() runtime.Object { return &storagev1.VolumeAttributesClassList{} },
		Columns: []object.TypedColumn[*storagev1.VolumeAttributesClass]{
			object.NameColumn[*storagev1.VolumeAttributesClass](),
			object.StringColumn("DriverName", storagev1.VolumeAttributesClass{}.SwaggerDoc()["driverName"], func(c *storagev1.VolumeAttributesClass) string { return c.DriverName }),
			object.AgeColumn[*storagev1.VolumeAttributesClass](),
		},
		Validate:       validateVolumeAttributesClass,
		ValidateUpdate: validateVolumeAttributesClassUpdate,
	}.Definition()
}

func validateVolumeAttributesClass(c *storagev1.VolumeAttributesClass) field.ErrorList {
	errs := check.RequiredName(field.NewPath("driverName"), strings.ToLower(c.DriverName), check.IsQualifiedName)
	return append(errs, validateParameters(c.Parameters, field.NewPath("parameters"), false)...)
}

// validateVolumeAttributesClassUpdate finds what is wrong twice, as upstream does.
func validateVolumeAttributesClassUpdate(c, old *storagev1.VolumeAttributesClass) field.ErrorList {
	errs := validateVolumeAttributesClass(c)
	if c.DriverName != old.DriverName {
		errs = append(errs, field.Forbidden(field.NewPath("driverName"), "updates to driverName are forbidden."))
	}
	if !equality.Semantic.DeepEqual(c.Parameters, old.Parameters) {
		errs = append(errs, field.Forbidden(field.NewPath("parameters"), "updates to parameters are forbidden."))
	}
	return append(errs, validateVolumeAttributesClass(c)...)
}
