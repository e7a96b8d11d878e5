package policy_test

import (
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/yaml"

	"sagong/object"
)

// Who may not read Secrets must not learn what is in them by a policy.
func TestAuthorsMayReadParams(t *testing.T) {
	read := func(o object.Object, text string) object.Object {
		if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	h := newHouse(t)
	takes := read(&admissionregistrationv1.ValidatingAdmissionPolicy{}, validating("takes", `
  paramKind: {apiVersion: v1, kind: Secret}
  validations: [{expression: "params == null", messageExpression: string(params.data)}]
`))
	binds := read(&admissionregistrationv1.ValidatingAdmissionPolicyBinding{}, bind("b", "takes", "  validationActions: [Deny]\n  paramRef: {name: s, namespace: ns, parameterNotFoundAction: Allow}"))
	selects := read(&admissionregistrationv1.MutatingAdmissionPolicyBinding{}, bind("s", "unknown", "  paramRef: {selector: {}, parameterNotFoundAction: Allow}"))
	jane := h.caller.User
	for _, tc := range []struct {
		o    object.Object
		want string
	}{
		{takes, `spec.paramKind: Forbidden: user joe must have "get" permission on all objects of the referenced paramKind (kind=Secret, apiVersion=v1)`},
		{binds, `spec.paramRef: Forbidden: user joe does not have "get" permission on the object referenced by paramRef`},
		{selects, `spec.paramRef: Forbidden: user joe does not have "list" permission on the object referenced by paramRef`},
	} {
		h.caller.User = userNamed("joe")
		if _, err := h.try(tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("joe: %v, want %s", err, tc.want)
		}
		h.caller.User = jane
		if _, err := h.try(tc.o); err != nil {
			t.Errorf("jane: %v", err)
		}
	}
}
