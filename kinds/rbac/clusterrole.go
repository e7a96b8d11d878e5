package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/object"
)

// ClusterRole defines rbac.authorization.k8s.io/v1 ClusterRole.
func ClusterRole() *object.Definition {
	return object.Kind[*rbacv1.ClusterRole]{
		Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole", Resource: "clusterroles",
		AllowCreateOnUpdate: true,
		New:                 func() *rbacv1.ClusterRole { return &rbacv1.ClusterRole{} },
		NewList:             func() runtime.Object { return &rbacv1.ClusterRoleList{} },
		Columns: []object.TypedColumn[*rbacv1.ClusterRole]{
			object.NameColumn[*rbacv1.ClusterRole](), object.CreatedAtColumn[*rbacv1.ClusterRole](),
		},
		NameRule:       path.ValidatePathSegmentName,
		Validate:       validateClusterRole,
		ValidateUpdate: func(r, _ *rbacv1.ClusterRole) field.ErrorList { return validateClusterRole(r) },
	}.Definition()
}
