package coordination

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// Lease defines coordination.k8s.io/v1 Lease.
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
	}.Definition()
}
