package policy

import (
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
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
	got, err := c.check(p)
	if err != nil {
		t.Fatal(err)
	}
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
		if _, err := c.typeOf(d.GVK()); err != nil {
			t.Errorf("%v: %v", d.GVK(), err)
		}
	}
}
