package storage

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/kinds/fill"
	"sagong/kinds/podspec"
	"sagong/object"
)

// StorageClass defines storage.k8s.io/v1 StorageClass.
func StorageClass() *object.Definition {
	doc := storagev1.StorageClass{}.SwaggerDoc()
	return object.Kind[*storagev1.StorageClass]{
		Group: "storage.k8s.io", Version: "v1", Kind: "StorageClass", Resource: "storageclasses", ShortNames: []string{"sc"},
		New:     func() *storagev1.StorageClass { return &storagev1.StorageClass{} },
		NewList: func() runtime.Object { return &storagev1.StorageClassList{} },
		Columns: []object.TypedColumn[*storagev1.StorageClass]{
			object.NameColumnOf(func(c *storagev1.StorageClass) string {
				if isDefault(c) {
					return c.Name + " (default)"
				}
				return c.Name
			}),
			object.StringColumn("Provisioner", doc["provisioner"], func(c *storagev1.StorageClass) string { return c.Provisioner }),
			object.StringColumn("ReclaimPolicy", doc["reclaimPolicy"], func(c *storagev1.StorageClass) string {
				if c.ReclaimPolicy == nil {
					return string(corev1.PersistentVolumeReclaimDelete)
				}
				return string(*c.ReclaimPolicy)
			}),
			object.StringColumn("VolumeBindingMode", doc["volumeBindingMode"], func(c *storagev1.StorageClass) string {
				if c.VolumeBindingMode == nil {
					return string(storagev1.VolumeBindingImmediate)
				}
				return string(*c.VolumeBindingMode)
			}),
			object.BoolColumn("AllowVolumeExpansion", doc["allowVolumeExpansion"], func(c *storagev1.StorageClass) bool {
				return c.AllowVolumeExpansion != nil && *c.AllowVolumeExpansion
			}).Text(),
			object.AgeColumn[*storagev1.StorageClass](),
		},
		Default:        defaultStorageClass,
		Validate:       validateStorageClass,
		ValidateUpdate: validateStorageClassUpdate,
		Warnings: func(c, _ *storagev1.StorageClass) (out []string) {
			for i, term := range c.AllowedTopologies {
				for j, r := range term.MatchLabelExpressions {
					if msg, ok := podspec.DeprecatedLabel(r.Key); ok {
						out = append(out, fmt.Sprintf("%s: %s", field.NewPath("allowedTopologies").Index(i).Child("matchLabelExpressions").Index(j).Child("key"), msg))
					}
				}
			}
			return out
		},
	}.Definition()
}

func defaultStorageClass(c *storagev1.StorageClass) {
	fill.Ptr(&c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
	fill.Ptr(&c.VolumeBindingMode, storagev1.VolumeBindingImmediate)
}
