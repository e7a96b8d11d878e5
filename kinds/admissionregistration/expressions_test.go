package admissionregistration

import (
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/kinds/field"
)

func policy(change func(*admissionregistrationv1.ValidatingAdmissionPolicySpec)) *admissionregistrationv1.ValidatingAdmissionPolicy {
	p := &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	p.Spec.MatchConstraints = &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
		RuleWithOperations: admissionregistrationv1.RuleWithOperations{
			Operations: []admissionregistrationv1.OperationType{"*"},
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}},
		},
	}}}
	p.Spec.Validations = []admissionregistrationv1.Validation{{Expression: "object.spec.replicas > 1"}}
	change(&p.Spec)
	ValidatingAdmissionPolicy().Default(p)
	return p
}

func TestExpressionsOfPolicies(t *testing.T) {
	type spec = admissionregistrationv1.ValidatingAdmissionPolicySpec
	for name, tc := range map[string]struct {
		change func(*spec)
		want   []string // beginnings of errors
	}{
		"good": {func(s *spec) {}, nil},
		"no expression": {func(s *spec) { s.Validations[0].Expression = " " },
			[]string{"spec.validations[0].expression: Required value: expression is not specified"}},
		"syntax": {func(s *spec) { s.Validations[0].Expression = "object." },
			[]string{`spec.validations[0].expression: Invalid value: "object.": compilation failed: ERROR: <input>:1:8: Syntax error:`}},
		"type": {func(s *spec) { s.Validations[0].Expression = "1" },
			[]string{`spec.validations[0].expression: Invalid value: "1": must evaluate to bool but got int`}},
		"unknown name": {func(s *spec) { s.Validations[0].Expression = "params.x" },
			[]string{`spec.validations[0].expression: Invalid value: "params.x": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params'`}},
		"params": {func(s *spec) {
			s.ParamKind = &admissionregistrationv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"}
			s.Validations[0] = admissionregistrationv1.Validation{Expression: "params == null || params.data.x == 'y'", MessageExpression: "'not ' + params.data.x"}
		}, nil},
		"message": {func(s *spec) { s.Validations[0].MessageExpression = "1 + 1" },
			[]string{`spec.validations[0].messageExpression: Invalid value: "1 + 1": must evaluate to string but got int`}},
		"message asks the authorizer": {func(s *spec) {
			s.Validations[0].MessageExpression = "string(authorizer.path('/x').check('get').allowed())"
		},
			[]string{`spec.validations[0].messageExpression: Invalid value`}},
		"variables": {func(s *spec) {
			s.Variables = []admissionregistrationv1.Variable{{Name: "a", Expression: "object.spec.replicas"}, {Name: "b", Expression: "variables.a > 1"}}
			s.Validations[0].Expression = "variables.b"
		}, nil},
		"variable used before": {func(s *spec) {
			s.Variables = []admissionregistrationv1.Variable{{Name: "b", Expression: "variables.a > 1"}, {Name: "a", Expression: "1"}}
		}, []string{`spec.variables[0].expression: Invalid value: "variables.a > 1": compilation failed: ERROR: <input>:1:10: undefined field 'a'`}},
		"variable's name": {func(s *spec) {
			s.Variables = []admissionregistrationv1.Variable{{Name: "for", Expression: "1"}}
		}, []string{`spec.variables[0].name: Invalid value: "for": name is not a valid CEL identifier`}},
		"condition": {func(s *spec) {
			s.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "x", Expression: "variables.a"}}
		}, []string{`spec.matchConditions[0].expression: Invalid value: "variables.a": compilation failed`}},
		"annotation": {func(s *spec) {
			s.AuditAnnotations = []admissionregistrationv1.AuditAnnotation{{Key: "k", ValueExpression: "1"}, {Key: "k", ValueExpression: "'v'"}, {Key: "a/b", ValueExpression: " "}}
		}, []string{
			`spec.auditAnnotations[0].valueExpression: Invalid value: "1": must evaluate to one of [string null_type] but got int`,
			`spec.auditAnnotations[1].key: Duplicate value: "k"`, `spec.auditAnnotations[2].key: Invalid value: "p/a/b"`,
			`spec.auditAnnotations[2].valueExpression: Required value: valueExpression is not specified`,
		}},
		"reason": {func(s *spec) { r := metav1.StatusReasonConflict; s.Validations[0].Reason = &r },
			[]string{`spec.validations[0].reason: Unsupported value: "Conflict": supported values: "Forbidden", "Invalid", "RequestEntityTooLarge"`}},
		"cost": {func(s *spec) {
			s.Validations[0].Expression = "[1,2,3,4,5,6,7,8,9].all(a, [1,2,3].all(b, a+b > 0))"
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			errs := validateValidatingPolicy(policy(tc.change), nil)
			for _, w := range tc.want {
				if !slices.ContainsFunc([]*field.Error(errs), func(e *field.Error) bool { return strings.HasPrefix(e.Error(), w) }) {
					t.Errorf("no error %q in %v", w, errs)
				}
			}
			if len(errs) != len(tc.want) {
				t.Errorf("%d errors: %v", len(errs), errs)
			}
		})
	}
}

func TestExpressionsOfMutations(t *testing.T) {
	type spec = admissionregistrationv1.MutatingAdmissionPolicySpec
	apply := func(text string) admissionregistrationv1.Mutation {
		return admissionregistrationv1.Mutation{PatchType: admissionregistrationv1.PatchTypeApplyConfiguration, ApplyConfiguration: &admissionregistrationv1.ApplyConfiguration{Expression: text}}
	}
	patch := func(text string) admissionregistrationv1.Mutation {
		return admissionregistrationv1.Mutation{PatchType: admissionregistrationv1.PatchTypeJSONPatch, JSONPatch: &admissionregistrationv1.JSONPatch{Expression: text}}
	}
	for name, tc := range map[string]struct {
		change func(*spec)
		want   []string
	}{
		"apply": {func(s *spec) {
			s.Mutations[0] = apply(`Object{metadata: Object.metadata{labels: Object.metadata.labels{a: "b"}}}`)
		}, nil},
		"patch": {func(s *spec) {
			s.Mutations[0] = patch(`[JSONPatch{op: "add", path: "/metadata/labels/a", value: "b"}]`)
		}, nil},
		"apply of another type": {func(s *spec) { s.Mutations[0] = apply(`"x"`) },
			[]string{`spec.mutations[0].applyConfiguration.expression: Invalid value: "\"x\"": must evaluate to Object but got string`}},
		"blank": {func(s *spec) { s.Mutations[0] = patch(" ") },
			[]string{`spec.mutations[0].jsonPatch.expression: Required value`}},
		"both": {func(s *spec) {
			s.Mutations[0] = patch(`[JSONPatch{op: "remove", path: "/a"}]`)
			s.Mutations[0].ApplyConfiguration = &admissionregistrationv1.ApplyConfiguration{}
		}, []string{`spec.mutations[0].applyConfiguration: Invalid value: "{applyConfiguration}": must not be specified when patchType is JSONPatch`}},
		"deletion": {func(s *spec) {
			s.Mutations[0] = apply(`Object{}`)
			s.MatchConstraints.ResourceRules[0].Operations = []admissionregistrationv1.OperationType{"DELETE"}
		}, []string{`spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE"`}},
	} {
		t.Run(name, func(t *testing.T) {
			p := &admissionregistrationv1.MutatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
			p.Spec.MatchConstraints = policy(func(*admissionregistrationv1.ValidatingAdmissionPolicySpec) {}).Spec.MatchConstraints
			p.Spec.ReinvocationPolicy = admissionregistrationv1.NeverReinvocationPolicy
			p.Spec.Mutations = make([]admissionregistrationv1.Mutation, 1)
			tc.change(&p.Spec)
			MutatingAdmissionPolicy().Default(p)
			errs := validateMutatingPolicy(p, nil)
			for _, w := range tc.want {
				if !slices.ContainsFunc([]*field.Error(errs), func(e *field.Error) bool { return strings.HasPrefix(e.Error(), w) }) {
					t.Errorf("no error %q in %v", w, errs)
				}
			}
			if len(errs) != len(tc.want) {
				t.Errorf("%d errors: %v", len(errs), errs)
			}
		})
	}
}
