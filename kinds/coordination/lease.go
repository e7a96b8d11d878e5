package coordination

import (
	"context"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/object"
)

// Lease defines coordination.k8s.io/v1 Lease. What chooses among candidates is taken
// away: upstream keeps it only when its feature CoordinatedLeaderElection, off by
// default, is switched on.
func Lease() *object.Definition {
	return object.Kind[*coordinationv1.Lease]{
		Group: "coordination.k8s.io", Version: "v1", Kind: "Lease", Resource: "leases", Namespaced: true,
		Lazy: true, AllowCreateOnUpdate: true, RefuseUnconditionalUpdate: true,
		New:     func() *coordinationv1.Lease { return &coordinationv1.Lease{} },
		NewList: func() runtime.Object { return &coordinationv1.LeaseList{} },
		Columns: []object.TypedColumn[*coordinationv1.Lease]{
			object.NameColumn[*coordinationv1.Lease](),
			object.StringColumn("Holder", coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"], func(l *coordinationv1.Lease) string {
				if l.Spec.HolderIdentity == nil {
					return ""
				}
				return *l.Spec.HolderIdentity
			}),
			object.AgeColumn[*coordinationv1.Lease](),
		},
		PrepareCreate: func(_ context.Context, l *coordinationv1.Lease) { l.Spec.Strategy, l.Spec.PreferredHolder = nil, nil },
		PrepareUpdate: func(_ context.Context, l, _ *coordinationv1.Lease) {
			l.Spec.Strategy, l.Spec.PreferredHolder = nil, nil
		},
		Validate:       validateLease,
		ValidateUpdate: func(l, _ *coordinationv1.Lease) field.ErrorList { return validateLease(l) },
	}.Definition()
}

func validateLease(l *coordinationv1.Lease) (errs field.ErrorList) {
	p := field.NewPath("spec")
	if n := l.Spec.LeaseDurationSeconds; n != nil && *n <= 0 {
		errs = append(errs, field.Invalid(p.Child("leaseDurationSeconds"), *n, "must be greater than 0"))
	}
	if n := l.Spec.LeaseTransitions; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(p.Child("leaseTransitions"), *n, "must be greater than or equal to 0"))
	}
	return errs
}
