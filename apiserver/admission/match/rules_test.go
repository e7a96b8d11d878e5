package match_test

import (
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/apiserver/admission/match"
	"sagong/apiserver/resource"
	"sagong/kinds"
	"sagong/object"
)

func TestRules(t *testing.T) {
	s := object.NewScheme(kinds.All()...)
	write := func(group, version, res, sub, namespace, name string) *match.Request {
		t.Helper()
		d := s.ByResource(schema.GroupVersionResource{Group: group, Version: version, Resource: res})
		v := object.NewCodec(d).Version(schema.GroupVersion{Group: group, Version: version})
		r, ok := match.New(s, &resource.Attributes{Operation: resource.Update, Definition: d, Version: v, Subresource: sub, Namespace: namespace, Name: name, Object: &corev1.Pod{}}, match.Webhooks)
		if !ok {
			t.Fatalf("%s is not shown", res)
		}
		return r
	}
	pod := write("", "v1", "pods", "", "ns", "p")
	exec := write("", "v1", "pods", "exec", "ns", "p")
	node := write("", "v1", "nodes", "", "", "n")
	namespace := write("", "v1", "namespaces", "", "", "ns")
	hpa := write("autoscaling", "v2", "horizontalpodautoscalers", "", "ns", "h")
	event := write("", "v1", "events", "", "ns", "e")
	if namespace.Namespace != "ns" || exec.Kind.Kind != "PodExecOptions" || !exec.Body {
		t.Errorf("namespace in %q, exec of kind %v", namespace.Namespace, exec.Kind)
	}
	type rule = admissionregistrationv1.NamedRuleWithOperations
	is := func(groups, versions, resources string, change ...func(*rule)) rule {
		r := rule{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
			Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{groups}, APIVersions: []string{versions}, Resources: []string{resources}},
		}}
		for _, f := range change {
			f(&r)
		}
		return r
	}
	within := func(s admissionregistrationv1.ScopeType) func(*rule) { return func(r *rule) { r.Scope = &s } }
	named := func(names ...string) func(*rule) { return func(r *rule) { r.ResourceNames = names } }
	equivalent, exact := admissionregistrationv1.Equivalent, admissionregistrationv1.Exact
	for _, tc := range []struct {
		what   string
		r      *match.Request
		rule   rule
		policy *admissionregistrationv1.MatchPolicyType
		want   string // the version in which it matches; empty for none
	}{
		{"itself", pod, is("", "v1", "pods"), nil, "/v1"},
		{"everything", pod, is("*", "*", "*"), nil, "/v1"},
		{"everything but subresources", exec, is("*", "*", "*"), nil, ""},
		{"all subresources", exec, is("*", "*", "*/*"), nil, "/v1"},
		{"all of one", exec, is("", "v1", "pods/*"), nil, "/v1"},
		{"one of all", exec, is("", "v1", "*/exec"), nil, "/v1"},
		{"another", exec, is("", "v1", "pods/attach"), nil, ""},
		{"deletions", pod, is("", "v1", "pods", func(r *rule) { r.Operations = []admissionregistrationv1.OperationType{"DELETE"} }), nil, ""},
		{"any operation", pod, is("", "v1", "pods", func(r *rule) { r.Operations = []admissionregistrationv1.OperationType{"*"} }), nil, "/v1"},
		{"another name", pod, is("", "v1", "pods", named("q")), nil, ""},
		{"its name", pod, is("", "v1", "pods", named("q", "p")), nil, "/v1"},
		{"cluster-wide, a pod", pod, is("*", "*", "*", within(admissionregistrationv1.ClusterScope)), nil, ""},
		{"cluster-wide, a node", node, is("*", "*", "*", within(admissionregistrationv1.ClusterScope)), nil, "/v1"},
		{"cluster-wide, a namespace", namespace, is("*", "*", "*", within(admissionregistrationv1.ClusterScope)), nil, "/v1"},
		{"in namespaces, a namespace", namespace, is("*", "*", "*", within(admissionregistrationv1.NamespacedScope)), nil, ""},
		{"in namespaces, a pod", pod, is("*", "*", "*", within(admissionregistrationv1.NamespacedScope)), nil, "/v1"},
		{"another version, exactly", hpa, is("autoscaling", "v1", "*"), &exact, ""},
		{"another version", hpa, is("autoscaling", "v1", "*"), &equivalent, "autoscaling/v1"},
		{"its own first", hpa, is("autoscaling", "*", "*"), &equivalent, "autoscaling/v2"},
		{"another group", event, is("events.k8s.io", "v1", "events"), &equivalent, "events.k8s.io/v1"},
	} {
		got, ok := match.Rule(tc.r, []rule{tc.rule}, match.Named, tc.policy)
		if ok != (tc.want != "") || ok && got.Kind.Group+"/"+got.Kind.Version != tc.want {
			t.Errorf("%s: %v %v, want %q", tc.what, got, ok, tc.want)
		}
	}
	for _, r := range []schema.GroupVersionResource{
		{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicies"},
		{Group: "authorization.k8s.io", Version: "v1", Resource: "subjectaccessreviews"},
	} {
		d := s.ByResource(r)
		if _, ok := match.New(s, &resource.Attributes{Definition: d, Version: object.NewCodec(d).Storage()}, match.Webhooks); ok {
			t.Errorf("%s is shown to webhooks", r.Resource)
		}
	}
}
