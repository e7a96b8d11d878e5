package storagemigration

import (
	"context"
	"strings"

	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

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
		Validate:             validateMigration,
		ValidateUpdate:       validateMigrationUpdate,
		ValidateStatusUpdate: validateMigrationStatus,
	}.Definition()
}

func validateMigration(m *storagemigrationv1.StorageVersionMigration) (errs field.ErrorList) {
	p, r := field.NewPath("spec", "resource"), m.Spec.Resource
	if r.Resource == "" {
		errs = append(errs, field.Required(p.Child("resource"), "resource is required to be set"))
	} else if bad := utilvalidation.IsDNS1035Label(r.Resource); len(bad) > 0 {
		errs = append(errs, field.Invalid(p.Child("resource"), r.Resource, strings.Join(bad, ",")))
	}
	if r.Group != "" {
		if bad := utilvalidation.IsDNS1123Subdomain(r.Group); len(bad) > 0 {
			errs = append(errs, field.Invalid(p.Child("group"), r.Group, strings.Join(bad, ",")))
		}
	}
	return errs
}

func validateMigrationUpdate(m, old *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	return append(validateMigration(m), check.Immutable(field.NewPath("spec"), m.Spec, old.Spec)...)
}

// validateMigrationStatus lets a migration end in one way, and stay so.
func validateMigrationStatus(m, old *storagemigrationv1.StorageVersionMigration) (errs field.ErrorList) {
	revision, conditions := field.NewPath("status", "resourceVersion"), field.NewPath("status", "conditions")
	now, was := m.Status.ResourceVersion, old.Status.ResourceVersion
	// A migration of what there is not ends before it has a revision.
	if _, err := resourceversion.CompareResourceVersion(now, now); err != nil && now != "" {
		errs = append(errs, field.Invalid(revision, now, err.Error()))
	}
	errs = append(errs, metav1validation.ValidateConditions(m.Status.Conditions, conditions.Upstream())...)
	if was != "" && was != now {
		errs = append(errs, field.Invalid(revision, now, "field is immutable"))
	}
	is := func(m *storagemigrationv1.StorageVersionMigration, t storagemigrationv1.MigrationConditionType) bool {
		return meta.IsStatusConditionTrue(m.Status.Conditions, string(t))
	}
	const running, succeeded, failed = storagemigrationv1.MigrationRunning, storagemigrationv1.MigrationSucceeded, storagemigrationv1.MigrationFailed
	for _, f := range []struct {
		bad  bool
		text string
	}{
		{is(m, succeeded) && is(m, failed), "Both success and failed conditions cannot be true at the same time"},
		{is(m, succeeded) && is(m, running), "Running condition cannot be true when success condition is true"},
		{is(m, failed) && is(m, running), "Running condition cannot be true when failed condition is true"},
		{is(old, succeeded) && !is(m, succeeded), "Success condition cannot be set to false once it is true"},
		{is(old, failed) && !is(m, failed), "Failed condition cannot be set to false once it is true"},
	} {
		if f.bad {
			errs = append(errs, field.Invalid(conditions, m.Status.Conditions, f.text))
		}
	}
	return errs
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
