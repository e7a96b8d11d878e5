package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/object"
)

// RoleBinding defines rbac.authorization.k8s.io/v1 RoleBinding.
func RoleBinding() *object.Definition {
	return object.Kind[*rbacv1.RoleBinding]{
		Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "RoleBinding", Resource: "rolebindings", Namespaced: true,
		AllowCreateOnUpdate: true,
		New:                 func() *rbacv1.RoleBinding { return &rbacv1.RoleBinding{} },
		NewList:             func() runtime.Object { return &rbacv1.RoleBindingList{} },
		Columns: bindingColumns(func(b *rbacv1.RoleBinding) (rbacv1.RoleRef, []rbacv1.Subject) { return b.RoleRef, b.Subjects },
			rbacv1.RoleBinding{}.SwaggerDoc()["roleRef"], "roleBinding"),
		NameRule:       path.ValidatePathSegmentName,
		Default:        func(b *rbacv1.RoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) },
		Validate:       func(b *rbacv1.RoleBinding) field.ErrorList { return validateRoleBinding(b, nil) },
		ValidateUpdate: validateRoleBinding,
	}.Definition()
}
