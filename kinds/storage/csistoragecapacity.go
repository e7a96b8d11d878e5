package storage

import (
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// CSIStorageCapacity defines storage.k8s.io/v1 CSIStorageCapacity.
func CSIStorageCapacity() *object.Definition {
	doc := storagev1.CSIStorageCapacity{}.SwaggerDoc()
	return object.Kind[*storagev1.CSIStorageCapacity]{
		Group: "storage.k8s.io", Version: "v1", Kind: "CSIStorageCapacity", Resource: "csistoragecapacities",
		Namespaced: true, RefuseUnconditionalUpdate: true,
		New:     func() *storagev1.CSIStorageCapacity { return &storagev1.CSIStorageCapacity{} },
		NewList: func() runtime.Object { return &storagev1.CSIStorageCapacityList{} },
		Columns: []object.TypedColumn[*storagev1.CSIStorageCapacity]{
			object.NameColumn[*storagev1.CSIStorageCapacity](),
			object.StringColumn("StorageClassName", doc["storageClassName"], func(c *storagev1.CSIStorageCapacity) string { return c.StorageClassName }),
			object.StringColumn("Capacity", doc["capacity"], func(c *storagev1.CSIStorageCapacity) string {
				if c.Capacity == nil {
					return "<unset>"
				}
				return c.Capacity.String()
			}),
		},
	}.Definition()
}
