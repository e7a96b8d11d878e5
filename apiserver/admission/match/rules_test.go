package match_test

import (
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
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

// Upstream's cases of equivalence, on the versions of a custom resource: those it
// lists in their order, served or not, that have the subresource.
func TestEquivalentRules(t *testing.T) {
	var listed []*object.Definition
	version := func(name string, status, scale bool) {
		d := &object.Definition{
			Group: "example.com", Version: name, Kind: "Widget", Resource: "widgets", Namespaced: true, Status: status, Dynamic: &object.Dynamic{},
			New: func() object.Object { return &unstructured.Unstructured{} }, NewList: func() runtime.Object { return &unstructured.UnstructuredList{} },
		}
		if scale {
			d.Scale = &object.Scale{}
		}
		listed = append(listed, d)
	}
	version("v1beta1", true, true)
	version("v1", true, true)
	version("v1alpha1", true, false)
	version("v0", false, false)
	for _, d := range listed {
		d.Dynamic.Listed = listed
	}
	s := object.NewScheme()
	type rule = admissionregistrationv1.NamedRuleWithOperations
	is := func(group, resource string, versions ...string) rule {
		return rule{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
			Operations: []admissionregistrationv1.OperationType{"*"},
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: versions, Resources: []string{resource}},
		}}
	}
	named := func(r rule, names ...string) rule { r.ResourceNames = names; return r }
	const group = "example.com"
	equivalent, exact := admissionregistrationv1.Equivalent, admissionregistrationv1.Exact
	for _, tc := range []struct {
		what, sub string
		rules     []rule
		policy    *admissionregistrationv1.MatchPolicyType
		want      string // the version of the resource asked about; empty for none
	}{
		{"no rules", "", nil, &equivalent, ""},
		{"everything", "", []rule{is("*", "*", "*")}, &equivalent, "v1"},
		{"itself before earlier rules", "", []rule{is(group, "widgets", "v1beta1"), is(group, "widgets", "v1alpha1"), is(group, "widgets", "v1")}, &equivalent, "v1"},
		{"others, no policy", "", []rule{is(group, "widgets", "v1beta1")}, nil, ""},
		{"others, exactly", "", []rule{is(group, "widgets", "v1beta1")}, &exact, ""},
		{"the first rule", "", []rule{is(group, "widgets", "v1alpha1"), is(group, "widgets", "v1beta1")}, &equivalent, "v1alpha1"},
		{"the first listed of one rule", "", []rule{is(group, "widgets", "v1alpha1", "v1beta1")}, &equivalent, "v1beta1"},
		{"another group", "", []rule{is("other.com", "widgets", "*")}, &equivalent, ""},
		{"another resource", "", []rule{is(group, "gadgets", "*")}, &equivalent, ""},
		{"not the subresource", "", []rule{is(group, "widgets/*", "v1beta1")}, &equivalent, "v1beta1"},
		{"only the status", "", []rule{is(group, "widgets/status", "v1beta1")}, &equivalent, ""},
		{"status", "status", []rule{is(group, "widgets/status", "v0"), is(group, "*/status", "v1alpha1")}, &equivalent, "v1alpha1"},
		{"status of all", "status", []rule{is(group, "widgets", "*"), is(group, "widgets/*", "v1beta1")}, &equivalent, "v1beta1"},
		{"a version without scale", "scale", []rule{is(group, "widgets/scale", "v1alpha1")}, &equivalent, ""},
		{"scale", "scale", []rule{is(group, "widgets/scale", "v1alpha1", "v1beta1")}, &equivalent, "v1beta1"},
		{"scale itself", "scale", []rule{is(group, "widgets/scale", "v1beta1"), is(group, "widgets/scale", "v1")}, &equivalent, "v1"},
		{"scale, exactly", "scale", []rule{is(group, "widgets/scale", "v1beta1")}, &exact, ""},
		{"its name", "", []rule{named(is(group, "widgets", "v1beta1"), "w")}, &equivalent, "v1beta1"},
		{"another name", "", []rule{named(is(group, "widgets", "v1", "v1beta1"), "x")}, &equivalent, ""},
		{"another name first", "", []rule{named(is(group, "widgets", "v1beta1"), "x"), is(group, "widgets", "v1alpha1")}, &equivalent, "v1alpha1"},
	} {
		d := listed[1]
		r, ok := match.New(s, &resource.Attributes{Operation: resource.Update, Definition: d, Version: object.NewCodec(d).Storage(), Subresource: tc.sub, Namespace: "ns", Name: "w", Object: &unstructured.Unstructured{}}, match.Webhooks)
		if !ok {
			t.Fatal("it is not shown")
		}
		got, ok := match.Rule(r, tc.rules, match.Named, tc.policy)
		if ok != (tc.want != "") || got.Resource.Version != tc.want {
			t.Errorf("%s: %v %v, want %q", tc.what, got, ok, tc.want)
		}
		kind := schema.GroupVersionKind{Group: group, Version: tc.want, Kind: "Widget"}
		if tc.sub == "scale" {
			kind = schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}
		}
		if ok && got.Kind != kind {
			t.Errorf("%s: kind %v, want %v", tc.what, got.Kind, kind)
		}
	}
}
