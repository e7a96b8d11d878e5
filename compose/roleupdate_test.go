package compose

import (
	"context"
	"maps"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
)

// Default roles and bindings are brought up to date as upstream does at its start.
func TestDefaultRolesAreMended(t *testing.T) {
	s := openServer(t, nil)
	views, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.hub.Run(views) }()
	t.Cleanup(func() {
		stop()
		<-done
	})
	if err := bootstrap(t.Context(), s.engine, s.system, s.cfg); err != nil {
		t.Fatal(err)
	}
	get := func(o object.Object) object.Object {
		t.Helper()
		o, err := s.system.Get(t.Context(), s.system.Scheme().ByObject(o), o.GetNamespace(), o.GetName())
		if err != nil {
			t.Fatal(err)
		}
		return o.DeepCopyObject().(object.Object)
	}
	revision := func() object.Revision {
		t.Helper()
		list, err := s.system.List(t.Context(), s.system.Scheme().ByObject(&rbacv1.ClusterRole{}), "", client.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return list.Revision
	}
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	marks := func(o object.Object) bool {
		return o.GetLabels()["kubernetes.io/bootstrapping"] == "rbac-defaults" && o.GetAnnotations()[rbacv1.AutoUpdateAnnotationKey] != ""
	}
	more := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{"example.com"}, Resources: []string{"things"}}
	mine := metav1.LabelSelector{MatchLabels: map[string]string{"mine": "true"}}
	somebody := rbacv1.Subject{Kind: "User", APIGroup: rbacv1.GroupName, Name: "jane"}
	type (
		role    = *rbacv1.ClusterRole
		binding = *rbacv1.ClusterRoleBinding
	)
	cases := map[string]struct {
		of     object.Object
		change func(object.Object)
		ok     func(object.Object) bool
	}{
		"rules come back, more stay": {
			&rbacv1.ClusterRole{ObjectMeta: named("system:kube-dns")},
			func(o object.Object) {
				o.(role).Rules, o.(role).Labels, o.(role).Annotations = []rbacv1.PolicyRule{more}, nil, nil
			},
			func(o object.Object) bool { return len(o.(role).Rules) == 5 && marks(o) },
		},
		"selectors come back, more stay": {
			&rbacv1.ClusterRole{ObjectMeta: named("view")},
			func(o object.Object) { o.(role).AggregationRule.ClusterRoleSelectors = []metav1.LabelSelector{mine} },
			func(o object.Object) bool {
				s := o.(role).AggregationRule.ClusterRoleSelectors
				return len(s) == 2 && equality.Semantic.DeepEqual(s[0], mine)
			},
		},
		"a role that is not aggregated": {
			&rbacv1.ClusterRole{ObjectMeta: named("system:monitoring")},
			func(o object.Object) {
				o.(role).AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{mine}}
			},
			func(o object.Object) bool { return o.(role).AggregationRule == nil },
		},
		"a role that is left alone": {
			&rbacv1.ClusterRole{ObjectMeta: named("system:heapster")},
			func(o object.Object) {
				o.(role).Rules = nil
				o.SetAnnotations(map[string]string{rbacv1.AutoUpdateAnnotationKey: "false"})
			},
			func(o object.Object) bool { return len(o.(role).Rules) == 0 },
		},
		"subjects come back, more stay": {
			&rbacv1.ClusterRoleBinding{ObjectMeta: named("system:kube-scheduler")},
			func(o object.Object) { o.(binding).Subjects = []rbacv1.Subject{somebody} },
			func(o object.Object) bool {
				return len(o.(binding).Subjects) == 2 && o.(binding).Subjects[0] == somebody
			},
		},
		"a label that somebody changed": {
			&rbacv1.ClusterRoleBinding{ObjectMeta: named("system:kube-dns")},
			func(o object.Object) { o.SetLabels(map[string]string{"kubernetes.io/bootstrapping": "mine", "a": "b"}) },
			func(o object.Object) bool {
				return maps.Equal(o.GetLabels(), map[string]string{"kubernetes.io/bootstrapping": "mine", "a": "b"})
			},
		},
	}
	for name, x := range cases {
		o := get(x.of)
		x.change(o)
		if _, err := s.system.Update(t.Context(), s.system.Scheme().ByObject(o), o, ""); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	const other = "system:basic-user"
	if err := client.Delete[binding](t.Context(), s.system, "", other, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Create(t.Context(), s.system, &rbacv1.ClusterRoleBinding{
		ObjectMeta: named(other), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
	}); err != nil {
		t.Fatal(err)
	}
	if err := bootstrap(t.Context(), s.engine, s.system, s.cfg); err != nil {
		t.Fatal(err)
	}
	for name, x := range cases {
		if o := get(x.of); !x.ok(o) {
			t.Errorf("%s: %+v", name, o)
		}
	}
	b := get(&rbacv1.ClusterRoleBinding{ObjectMeta: named(other)}).(binding)
	if b.RoleRef.Name != other || len(b.Subjects) != 1 {
		t.Errorf("a binding to another role: %+v", b)
	}
	before := revision()
	if err := bootstrap(t.Context(), s.engine, s.system, s.cfg); err != nil {
		t.Fatal(err)
	}
	if now := revision(); now != before {
		t.Errorf("what is as it should be is written again: revision %d after %d", now, before)
	}
}
