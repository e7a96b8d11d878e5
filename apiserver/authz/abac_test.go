package authz_test

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/authz"
)

const policies = `
# Lines of both sorts.
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "alice", "namespace": "*", "resource": "*", "apiGroup": "*"}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "bob", "namespace": "projectCaribou", "resource": "pods", "readonly": true}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "carol", "group": "dev", "namespace": "a", "resource": "deployments", "apiGroup": "apps"}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"group": "*", "nonResourcePath": "/version", "readonly": true}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "dave", "nonResourcePath": "/logs*"}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"resource": "secrets", "namespace": "*"}}
   {"user": "old", "resource": "pods"}
{"user": "older", "readonly": true}
`

func TestABAC(t *testing.T) {
	list, err := authz.ReadPolicies("p", strings.NewReader(policies))
	if err != nil {
		t.Fatal(err)
	}
	for request, allowed := range map[string]bool{
		"alice create a apps/deployments":  true,
		"alice get /version":               true, // as everybody
		"alice get /logs":                  false,
		"bob get projectCaribou pods":      true,
		"bob get projectCaribou apps/pods": false,
		"bob create projectCaribou pods":   false,
		"bob list other pods":              false,
		"carol update a apps/deployments":  true, // is in the group
		"erin update a apps/deployments":   false,
		"bob get /version":                 true,
		"nobody get /version":              false, // not authenticated
		"bob post /version":                false,
		"dave post /logs":                  true,
		"dave get /logs/a":                 true,
		"dave get /log":                    false,
		"bob get a secrets":                false, // names nobody
		"old delete a pods":                true,
		"old delete a apps/pods":           true,
		"old get /api":                     false,
		"older get a apps/anything":        true,
		"older delete a apps/anything":     false,
		"older get /api":                   true,
	} {
		f := strings.Fields(request)
		u := &user.DefaultInfo{Name: f[0], Groups: []string{user.AllAuthenticated}}
		switch f[0] {
		case "carol":
			u.Groups = append(u.Groups, "dev")
		case "nobody":
			u.Groups = nil
		}
		a := authorizer.AttributesRecord{User: u, Verb: f[1]}
		if len(f) == 3 {
			a.Path = f[2]
		} else {
			a.ResourceRequest, a.Namespace, a.Resource = true, f[2], f[3]
			if g, r, ok := strings.Cut(f[3], "/"); ok {
				a.APIGroup, a.Resource = g, r
			}
		}
		decision, reason, err := list.Authorize(t.Context(), a)
		if (decision == authorizer.DecisionAllow) != allowed || err != nil || !allowed && (decision != authorizer.DecisionNoOpinion || reason != "No policy matched.") {
			t.Errorf("%s: %v %q %v", request, decision, reason, err)
		}
	}
	rules, incomplete, err := list.Rules(&user.DefaultInfo{Name: "bob", Groups: []string{user.AllAuthenticated}}, "projectCaribou")
	if got := fmt.Sprint(rules, incomplete, err); got != "[{[get list watch] [] [pods] [] []}] false <nil>" {
		t.Error(got)
	}
}

func TestABACBadLines(t *testing.T) {
	for line, want := range map[string]string{
		"{": "error reading policy file p, line 2: {: couldn't get version/kind; json parse error: ",
		`{"apiVersion": "abac.authorization.kubernetes.io/v9", "kind": "Policy"}`: `error reading policy file p, line 2: {"apiVersion": "abac.authorization.kubernetes.io/v9", "kind": "Policy"}: no kind "Policy" is registered for version "abac.authorization.kubernetes.io/v9"`,
		`{"user": 1}`: `error reading policy file p, line 2: {"user": 1}: json: cannot unmarshal number into Go struct field `,
	} {
		if _, err := authz.ReadPolicies("p", strings.NewReader("# first\n"+line+"\n")); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// When nobody has an opinion, each says its own under its name; what can be listed
// is listed of all, and who cannot list says so.
func TestChainSpeaksForAll(t *testing.T) {
	list, err := authz.ReadPolicies("p", strings.NewReader(`{"user": "jane", "resource": "pods", "readonly": true}`))
	if err != nil {
		t.Fatal(err)
	}
	chain := authz.Chain{
		{Name: authz.MastersName, Authorizer: authz.Masters{}}, {Name: "abac", Authorizer: list},
		{Name: "hook", Authorizer: &authz.Webhook{}}, {Name: "none", Authorizer: authz.Always(authorizer.DecisionNoOpinion)},
	}
	rules, incomplete, err := chain.Rules(&user.DefaultInfo{Name: "jane"}, "a")
	if len(rules) != 1 || !incomplete || err == nil || err.Error() != "webhook authorizer does not support user rule resolution" {
		t.Error(rules, incomplete, err)
	}
	chain = append(chain[:2:2], chain[3])
	decision, reason, err := chain.Authorize(t.Context(), authorizer.AttributesRecord{User: &user.DefaultInfo{Name: "joe"}, ResourceRequest: true, Verb: "get", Resource: "pods"})
	if decision != authorizer.DecisionNoOpinion || reason != "abac: No policy matched.\nnone: Everything is forbidden." || err != nil {
		t.Error(decision, reason, err)
	}
}
