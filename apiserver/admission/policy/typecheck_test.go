package policy

import (
	"errors"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/yaml"

	"sagong/apiserver/openapi"
	"sagong/kinds"
	"sagong/object"
)

func TestTypeChecking(t *testing.T) {
	s := object.NewScheme(kinds.All()...)
	c := &checker{s, openapi.New(s, "v1.37.0")}
	p := &admissionregistrationv1.ValidatingAdmissionPolicy{}
	if err := yaml.UnmarshalStrict([]byte(`
spec:
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], resources: [deployments, deployments/scale, replicasets], operations: ["*"]}
    - {apiGroups: ["*"], apiVersions: [v1], resources: [pods], operations: ["*"]}
  variables: [{name: r, expression: object.spec.replicas}]
  validations:
  - {expression: variables.r > 1}
  - {expression: object.spec.replicsa > 1, messageExpression: "'x' + object.spec.paused"}
  - expression: "params.data['a'] == 'b' && object.spec.template.spec.containers.all(c, c.image != '')"
  - expression: params.dat == null
  - expression: object.spec.strategy != null
`), p); err != nil {
		t.Fatal(err)
	}
	got := c.check(p)
	want := map[string][]string{
		"spec.validations[1].expression":        {"apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'replicsa'", "apps/v1, Kind=ReplicaSet: ERROR"},
		"spec.validations[1].messageExpression": {"apps/v1, Kind=Deployment: ERROR: <input>:1:5: found no matching overload for '_+_' applied to '(string, bool)'", "undefined field 'paused'"},
		"spec.validations[3].expression":        {"undefined field 'dat'"},
		"spec.validations[4].expression":        {"apps/v1, Kind=ReplicaSet: ERROR: <input>:1:12: undefined field 'strategy'"},
	}
	for _, w := range got {
		for _, text := range want[w.FieldRef] {
			if !strings.Contains(w.Warning, text) {
				t.Errorf("%s: %s, want %s", w.FieldRef, w.Warning, text)
			}
		}
		if want[w.FieldRef] == nil {
			t.Errorf("unexpected %+v", w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d warnings: %+v", len(got), got)
	}
}

// Every kind has a type, recursive ones too.
func TestEveryKindHasAType(t *testing.T) {
	s := object.NewScheme(kinds.All()...)
	c := &checker{s, openapi.New(s, "v1.37.0")}
	for _, d := range s.All() {
		if _, err := c.schemas.Schema(d.GVK()); err != nil {
			t.Errorf("%v: %v", d.GVK(), err)
		}
		c.typeOf("object", d.GVK())
	}
}

// described answers with one schema for every kind, with none when it is nil.
type described struct {
	schema *spec.Schema
	err    error
}

func (d described) Schema(schema.GroupVersionKind) (*spec.Schema, error) { return d.schema, d.err }

func schemaOf(t *testing.T, text string) *spec.Schema {
	t.Helper()
	s := &spec.Schema{}
	if err := yaml.Unmarshal([]byte(text), s); err != nil {
		t.Fatal(err)
	}
	return s
}

// The cases of upstream's TestTypeCheck (typechecking_test.go), and a few more.
func TestTypeCheckingAsUpstream(t *testing.T) {
	text, number := schemaOf(t, `{type: object, properties: {foo: {type: string}}}`), schemaOf(t, `{type: object, properties: {foo: {type: integer}}}`)
	const at = "spec.validations[0].expression"
	for _, tc := range []struct {
		name   string
		schema *spec.Schema
		err    error
		spec   string
		want   []string // pairs of fieldRef and part of the warning
	}{
		{name: "unresolved schema", spec: "validations: [{expression: object.foo == 'bar'}]"},
		{name: "unreadable schema", err: errors.New("broken"), spec: "validations: [{expression: object.foo == 'bar'}]"},
		{name: "passed check", schema: text, spec: "validations: [{expression: object.foo == 'bar'}]"},
		{name: "undefined field", schema: text, spec: "validations: [{expression: object.bar == 'bar'}]", want: []string{at, "undefined field 'bar'"}},
		{name: "field type mismatch", schema: number, spec: "validations: [{expression: object.foo == 'bar'}]", want: []string{at, "found no matching overload"}},
		{name: "params", schema: text, spec: "{paramKind: {apiVersion: v1, kind: DoesNotMatter}, validations: [{expression: object.foo == params.bar}]}",
			want: []string{at, "undefined field 'bar'"}},
		{name: "params of the object's kind", schema: text, spec: "{paramKind: {apiVersion: apps/v1, kind: Deployment}, validations: [{expression: object.foo == params.foo}]}"},
		{name: "params with untyped schema", schema: &spec.Schema{}, spec: "{paramKind: {apiVersion: v1, kind: Config}, validations: [{expression: params != null}]}"},
		{name: "one of several", schema: text, spec: "validations: [{expression: object.foo == 'bar'}, {expression: object.bar == 'foo'}]",
			want: []string{"spec.validations[1].expression", "undefined field 'bar'"}},
		{name: "message expression", schema: text, spec: "validations: [{expression: object.foo == 'bar', messageExpression: object.foo + 114514}]",
			want: []string{"spec.validations[0].messageExpression", "no matching overload"}},
		{name: "authorizer", schema: text, spec: "validations: [{expression: authorizer.group('').resource('endpoints').check('create').allowed()}]"},
		{name: "authorizer invalid", schema: text, spec: "validations: [{expression: authorizer.allowed()}]",
			want: []string{at, "found no matching overload for 'allowed' applied to 'kubernetes.authorization.Authorizer"}},
		{name: "additionalProperties: true", schema: schemaOf(t, `{type: object, properties: {spec: {type: object, properties: {text: {type: string}}},
			status: {type: object, properties: {p: {type: object, additionalProperties: true}}}}}`), spec: "validations: [{expression: has(object.spec.text)}]"},
		{name: "schema without type", schema: &spec.Schema{}, spec: "validations: [{expression: 'true'}]"},
		{name: "schema without type, another variable wrong", schema: &spec.Schema{}, spec: "validations: [{expression: object.x == 1}, {expression: request.nothing == 1}]",
			want: []string{"spec.validations[1].expression", "undefined field 'nothing'"}},
		{name: "variables valid", schema: number, spec: "{variables: [{name: works, expression: 'true'}], validations: [{expression: variables.works}]}"},
		{name: "variables missing", schema: number, spec: "{variables: [{name: works, expression: 'true'}], validations: [{expression: variables.nonExisting}]}",
			want: []string{at, "undefined field 'nonExisting'"}},
		{name: "variable of the wrong type", schema: number, spec: "{variables: [{name: name, expression: \"'something'\"}], validations: [{expression: variables.name == object.foo}]}",
			want: []string{at, "found no matching overload for '_==_' applied to '(string, int)"}},
		{name: "errors in variables are not told", schema: number, spec: "{variables: [{name: name, expression: object.foo == 'str'}], validations: [{expression: variables.name == object.foo}]}"},
		{name: "match conditions and audit annotations are not checked", schema: text, spec: "{matchConditions: [{name: a, expression: object.bar == 1}], auditAnnotations: [{key: a, valueExpression: object.bar}], validations: [{expression: 'true'}]}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &admissionregistrationv1.ValidatingAdmissionPolicy{}
			if err := yaml.UnmarshalStrict([]byte(tc.spec), &p.Spec); err != nil {
				t.Fatal(err)
			}
			p.Spec.MatchConstraints = matching("apps v1 deployments")
			var got []string
			for _, w := range (&checker{object.NewScheme(kinds.All()...), described{tc.schema, tc.err}}).check(p) {
				got = append(got, w.FieldRef, w.Warning)
			}
			if len(got) != len(tc.want) {
				t.Fatalf("warnings %q, want %q", got, tc.want)
			}
			for i := range got {
				if !strings.Contains(got[i], tc.want[i]) || i%2 == 0 && got[i] != tc.want[i] {
					t.Errorf("%q, want %q", got[i], tc.want[i])
				}
			}
		})
	}
}

// matching are resource rules, each "groups versions resources" with commas between
// several; core stands for the group without a name.
func matching(list ...string) *admissionregistrationv1.MatchResources {
	m := &admissionregistrationv1.MatchResources{}
	for _, r := range list {
		f := strings.Fields(r)
		groups := strings.Split(f[0], ",")
		for i := range groups {
			groups[i] = strings.TrimPrefix(groups[i], "core")
		}
		var n admissionregistrationv1.NamedRuleWithOperations
		n.Rule = admissionregistrationv1.Rule{APIGroups: groups, APIVersions: strings.Split(f[1], ","), Resources: strings.Split(f[2], ",")}
		m.ResourceRules = append(m.ResourceRules, n)
	}
	return m
}

// The cases of upstream's TestExtractTypeNames, and the bound on kinds: a rule
// that reaches it ends the search, and what came before stays.
func TestKindsThatAreChecked(t *testing.T) {
	c := &checker{scheme: object.NewScheme(kinds.All()...)}
	const eleven = "core v1 configmaps,endpoints,limitranges,namespaces,nodes,persistentvolumeclaims,persistentvolumes,pods,podtemplates,secrets,services"
	for _, tc := range []struct {
		rules []string
		want  string
	}{
		{nil, ""},
		{[]string{"apps v1 deployments"}, "apps/v1 Deployment"},
		{[]string{"apps v1 deployments", "core v1 pods"}, "v1 Pod, apps/v1 Deployment"},
		{[]string{"apps v1 *"}, ""},
		{[]string{"apps v1 pods/*,deployments/status"}, ""},
		{[]string{"apps v1 deployments", "apps * deployments"}, "apps/v1 Deployment"},
		{[]string{"apps v1,v1beta1 deployments", "* v1 pods", "apps,* v1 daemonsets"}, "apps/v1 Deployment"},
		{[]string{"autoscaling v2,v1 horizontalpodautoscalers"}, "autoscaling/v1 HorizontalPodAutoscaler, autoscaling/v2 HorizontalPodAutoscaler"},
		{[]string{"apps v1 deployments", eleven, "apps v1 daemonsets"}, "v1 ConfigMap, v1 Endpoints, v1 LimitRange, v1 Namespace, v1 Node, v1 PersistentVolume, v1 PersistentVolumeClaim, v1 Pod, v1 PodTemplate, v1 Secret, apps/v1 Deployment"},
	} {
		var got []string
		for _, k := range c.named(&admissionregistrationv1.ValidatingAdmissionPolicy{Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{MatchConstraints: matching(tc.rules...)}}) {
			got = append(got, k.GroupVersion().String()+" "+k.Kind)
		}
		if s := strings.Join(got, ", "); s != tc.want {
			t.Errorf("%v: %s, want %s", tc.rules, s, tc.want)
		}
	}
}
