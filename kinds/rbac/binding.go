package rbac

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"sagong/kinds/fill"
	"sagong/object"
)

// bindingColumns are those of RoleBinding and ClusterRoleBinding alike.
func bindingColumns[T object.Object](parts func(T) (rbacv1.RoleRef, []rbacv1.Subject), roleDoc, kind string) []object.TypedColumn[T] {
	subjects := func(kind string) func(T) string {
		return func(b T) string {
			var all []string
			_, ss := parts(b)
			for _, s := range ss {
				switch {
				case s.Kind != kind:
				case kind == rbacv1.ServiceAccountKind:
					all = append(all, s.Namespace+"/"+s.Name)
				default:
					all = append(all, s.Name)
				}
			}
			return strings.Join(all, ", ")
		}
	}
	return []object.TypedColumn[T]{
		object.NameColumn[T](),
		object.StringColumn("Role", roleDoc, func(b T) string {
			ref, _ := parts(b)
			return ref.Kind + "/" + ref.Name
		}),
		object.AgeColumn[T](),
		object.StringColumn("Users", "Users in the "+kind, subjects(rbacv1.UserKind)).Wide(),
		object.StringColumn("Groups", "Groups in the "+kind, subjects(rbacv1.GroupKind)).Wide(),
		object.StringColumn("ServiceAccounts", "ServiceAccounts in the "+kind, subjects(rbacv1.ServiceAccountKind)).Wide(),
	}
}

// defaultBinding names the groups that roles, users and groups belong to.
func defaultBinding(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	fill.Zero(&ref.APIGroup, rbacv1.GroupName)
	for i := range subjects {
		if subjects[i].Kind == rbacv1.UserKind || subjects[i].Kind == rbacv1.GroupKind {
			fill.Zero(&subjects[i].APIGroup, rbacv1.GroupName)
		}
	}
}
