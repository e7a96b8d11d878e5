package storage

import (
	"fmt"
	"maps"
	"slices"

	storagev1 "k8s.io/api/storage/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/podspec"
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
		Validate:       validateCSIStorageCapacity,
		ValidateUpdate: validateCSIStorageCapacityUpdate,
		Warnings: func(c, _ *storagev1.CSIStorageCapacity) (out []string) {
			if c.NodeTopology == nil {
				return nil
			}
			path := field.NewPath("nodeTopology")
			for i, r := range c.NodeTopology.MatchExpressions {
				if msg, ok := podspec.DeprecatedLabel(r.Key); ok {
					out = append(out, fmt.Sprintf("%s: %s is %s", path.Child("matchExpressions").Index(i).Child("key"), r.Key, msg))
				}
			}
			for _, key := range slices.Sorted(maps.Keys(c.NodeTopology.MatchLabels)) {
				if msg, ok := podspec.DeprecatedLabel(key); ok {
					out = append(out, fmt.Sprintf("%s: %s", path.Child("matchLabels").Child(key), msg))
				}
			}
			return out
		},
	}.Definition()
}

func validateCSIStorageCapacity(c *storagev1.CSIStorageCapacity) (errs field.ErrorList) {
	if c.NodeTopology != nil {
		errs = append(errs, metav1validation.ValidateLabelSelector(c.NodeTopology, metav1validation.LabelSelectorValidationOptions{}, field.NewPath("nodeTopology").Upstream())...)
	}
	errs = append(errs, check.Rule(field.NewPath("storageClassName"), c.StorageClassName, utilvalidation.IsDNS1123Subdomain)...)
	if c.Capacity != nil {
		errs = append(errs, check.Quantity(field.NewPath("capacity"), *c.Capacity)...)
	}
	return errs
}

func validateCSIStorageCapacityUpdate(c, old *storagev1.CSIStorageCapacity) field.ErrorList {
	errs := validateCSIStorageCapacity(c)
	errs = append(errs, check.Immutable(field.NewPath("nodeTopology"), c.NodeTopology, old.NodeTopology)...)
	return append(errs, check.Immutable(field.NewPath("storageClassName"), c.StorageClassName, old.StorageClassName)...)
}
