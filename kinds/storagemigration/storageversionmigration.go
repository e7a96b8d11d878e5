package storagemigration

import (
	"context"

	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
	"sagong/object"
)

// StorageVersionMigration defines storagemigration.k8s.io/v1 StorageVersionMigration.
func StorageVersionMigration() *object.Definition {
	return object.Kind[*storagemigrationv1.StorageVersionMigration]{
		Group: "storagemigration.k8s.io", Version: "v1", Kind: "StorageVersionMigration",
		Resource: "storageversionmigrations", Status: true,
		New: func() *storagemigrationv1.StorageVersionMigration {
			return &storagemigrationv1.StorageVersionMigration{}
		},
		NewList: func() runtime.Object { return &storagemigrationv1.StorageVersionMigrationList{} },
		Columns: []object.TypedColumn[*storagemigrationv1.StorageVersionMigration]{
			object.NameColumn[*storagemigrationv1.StorageVersionMigration](),
			object.StringColumn("Resource", storagemigrationv1.StorageVersionMigrationSpec{}.SwaggerDoc()["resource"], func(m *storagemigrationv1.StorageVersionMigration) string { return m.Spec.Resource.String() }),
			object.AgeColumn[*storagemigrationv1.StorageVersionMigration](),
		},
		PrepareCreate: func(_ context.Context, m *storagemigrationv1.StorageVersionMigration) {
			m.Status = storagemigrationv1.StorageVersionMigrationStatus{}
		},
		Validate:       validateMigration,
		ValidateUpdate: validateMigrationUpdate,
	}.Definition()
}

func validateMigration(m *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	return check.Required(field.NewPath("spec", "resource", "resource"), m.Spec.Resource.Resource, "resource is required")
}

func validateMigrationUpdate(m, old *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	return append(validateMigration(m), check.Immutable(field.NewPath("spec", "resource"), m.Spec.Resource, old.Spec.Resource)...)
}
