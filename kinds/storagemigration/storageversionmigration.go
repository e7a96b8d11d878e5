package storagemigration

import (
	"context"

	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/object"
)

// StorageVersionMigration defines storagemigration.k8s.io/v1 StorageVersionMigration.
func StorageVersionMigration() *object.Definition {
	name := object.NameColumn[*storagemigrationv1.StorageVersionMigration]()
	name.Format = "" // as upstream has it
	return object.Kind[*storagemigrationv1.StorageVersionMigration]{
		Group: "storagemigration.k8s.io", Version: "v1", Kind: "StorageVersionMigration",
		Resource: "storageversionmigrations", Status: true, StatusKeepsMetadata: true,
		New: func() *storagemigrationv1.StorageVersionMigration {
			return &storagemigrationv1.StorageVersionMigration{}
		},
		NewList: func() runtime.Object { return &storagemigrationv1.StorageVersionMigrationList{} },
		Columns: []object.TypedColumn[*storagemigrationv1.StorageVersionMigration]{
			name,
			object.StringColumn("Resource", "GroupResource to migrate", func(m *storagemigrationv1.StorageVersionMigration) string { return m.Spec.Resource.String() }),
			object.StringColumn("Status", "Status of the migration", migrationStatus),
		},
		PrepareCreate: func(_ context.Context, m *storagemigrationv1.StorageVersionMigration) {
			m.Status = storagemigrationv1.StorageVersionMigrationStatus{}
		},
		Validate:       validateMigration,
		ValidateUpdate: validateMigrationUpdate,
	}.Definition()
}

func validateMigration(m *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	return check.Required(field.NewPath("spec", "resource", "resource"), m.Spec.Resource.Resource, "resource is required to be set")
}

func validateMigrationUpdate(m, old *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	return append(validateMigration(m), check.Immutable(field.NewPath("spec", "resource"), m.Spec.Resource, old.Spec.Resource)...)
}

// migrationStatus is the last condition that holds.
func migrationStatus(m *storagemigrationv1.StorageVersionMigration) string {
	s := "Unknown"
	for _, c := range m.Status.Conditions {
		switch storagemigrationv1.MigrationConditionType(c.Type) {
		case storagemigrationv1.MigrationRunning, storagemigrationv1.MigrationFailed, storagemigrationv1.MigrationSucceeded:
			if c.Status == metav1.ConditionTrue {
				s = c.Type
			}
		}
	}
	return s
}
