package compose

import (
	"maps"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver/authz"
	"sagong/object"
)

// roleUpdate brings a stored default role or binding up to what this version
// wants: rules, selectors, subjects, labels and annotations that are missing are
// added, what else is there stays. A binding to another role cannot be changed: what
// is returned then has no UID, and takes its place. Nil when there is nothing to do
// or an annotation says to leave it alone.
func roleUpdate(have, want object.Object) object.Object {
	if have.GetAnnotations()[rbacv1.AutoUpdateAnnotationKey] == "false" {
		return nil
	}
	var out object.Object
	switch want := want.(type) {
	case *rbacv1.ClusterRole:
		next := have.(*rbacv1.ClusterRole).DeepCopy()
		if want.AggregationRule == nil {
			next.Rules = append(next.Rules, authz.Missing(next.Rules, want.Rules)...)
		}
		next.AggregationRule = addSelectors(next.AggregationRule, want.AggregationRule)
		out = next
	case *rbacv1.Role:
		next := have.(*rbacv1.Role).DeepCopy()
		next.Rules = append(next.Rules, authz.Missing(next.Rules, want.Rules)...)
		out = next
	case *rbacv1.ClusterRoleBinding:
		next := have.(*rbacv1.ClusterRoleBinding).DeepCopy()
		if next.RoleRef != want.RoleRef {
			return want
		}
		next.Subjects = addMissing(next.Subjects, want.Subjects)
		out = next
	case *rbacv1.RoleBinding:
		next := have.(*rbacv1.RoleBinding).DeepCopy()
		if next.RoleRef != want.RoleRef {
			return want
		}
		next.Subjects = addMissing(next.Subjects, want.Subjects)
		out = next
	default:
		return nil
	}
	out.SetLabels(addKeys(out.GetLabels(), want.GetLabels()))
	out.SetAnnotations(addKeys(out.GetAnnotations(), want.GetAnnotations()))
	if equality.Semantic.DeepEqual(have, out) {
		return nil
	}
	return out
}

// addSelectors adds the selectors that are missing; a role that should not be
// aggregated is not.
func addSelectors(have, want *rbacv1.AggregationRule) *rbacv1.AggregationRule {
	if want == nil {
		return nil
	}
	out := &rbacv1.AggregationRule{}
	if have != nil {
		out.ClusterRoleSelectors = have.ClusterRoleSelectors
	}
	for _, s := range want.ClusterRoleSelectors {
		if !slices.ContainsFunc(out.ClusterRoleSelectors, func(h metav1.LabelSelector) bool { return equality.Semantic.DeepEqual(h, s) }) {
			out.ClusterRoleSelectors = append(out.ClusterRoleSelectors, s)
		}
	}
	return out
}

func addMissing(have, want []rbacv1.Subject) []rbacv1.Subject {
	for _, s := range want {
		if !slices.Contains(have, s) {
			have = append(have, s)
		}
	}
	return have
}

func addKeys(have, want map[string]string) map[string]string {
	out := maps.Clone(want)
	if out == nil {
		return have
	}
	maps.Copy(out, have)
	return out
}
