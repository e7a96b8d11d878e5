package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/object"
)

// Role defines rbac.authorization.k8s.io/v1 Role.
func Role() *object.Definition {
	return object.Kind[*rbacv1.Role]{
		Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "Role", Resource: "roles", Namespaced: true,
		AllowCreateOnUpdate: true,
		New:                 func() *rbacv1.Role { return &rbacv1.Role{} },
		NewList:             func() runtime.Object { return &rbacv1.RoleList{} },
		Columns: []object.TypedColumn[*rbacv1.Role]{
			object.NameColumn[*rbacv1.Role](), object.CreatedAtColumn[*rbacv1.Role](),
		},
		NameRule:       path.ValidatePathSegmentName,
		Validate:       validateRole,
		ValidateUpdate: func(r, _ *rbacv1.Role) field.ErrorList { return validateRole(r) },
	}.Definition()
}
