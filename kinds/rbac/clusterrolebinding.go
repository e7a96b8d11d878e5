package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/object"
)

// ClusterRoleBinding defines rbac.authorization.k8s.io/v1 ClusterRoleBinding.
func ClusterRoleBinding() *object.Definition {
	return object.Kind[*rbacv1.ClusterRoleBinding]{
		Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRoleBinding", Resource: "clusterrolebindings",
		AllowCreateOnUpdate: true,
		New:                 func() *rbacv1.ClusterRoleBinding { return &rbacv1.ClusterRoleBinding{} },
		NewList:             func() runtime.Object { return &rbacv1.ClusterRoleBindingList{} },
		Columns: bindingColumns(func(b *rbacv1.ClusterRoleBinding) (rbacv1.RoleRef, []rbacv1.Subject) { return b.RoleRef, b.Subjects },
			rbacv1.ClusterRoleBinding{}.SwaggerDoc()["roleRef"], "clusterRoleBinding"),
		NameRule:       path.ValidatePathSegmentName,
		Default:        func(b *rbacv1.ClusterRoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) },
		Validate:       func(b *rbacv1.ClusterRoleBinding) field.ErrorList { return validateClusterRoleBinding(b, nil) },
		ValidateUpdate: validateClusterRoleBinding,
	}.Definition()
}
