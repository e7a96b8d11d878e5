package apiserver_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver"
)

func TestConstrainedImpersonation(t *testing.T) {
	const agent = "system:serviceaccount:ns:agent"
	allowed := rules{
		// Who may act as somebody else, and for what.
		"viewer impersonate:user-info users", "viewer impersonate:user-info groups", "viewer impersonate-on:user-info:get configmaps default",
		"half impersonate-on:user-info:get configmaps default",
		"extra impersonate:user-info users", "extra impersonate:user-info userextras/example.org/a", "extra impersonate-on:user-info:get configmaps default",
		"accounts impersonate:serviceaccount serviceaccounts a", "accounts impersonate-on:serviceaccount:get configmaps default",
		"nodes impersonate:arbitrary-node nodes", "nodes impersonate-on:arbitrary-node:get configmaps default",
		agent + " impersonate:associated-node nodes", agent + " impersonate-on:associated-node:get configmaps default",
		"legacy impersonate users", "legacy impersonate groups",
		// What those may do.
		"jane get configmaps default", "jane get secrets default", "system:serviceaccount:a:b get configmaps default", "system:node:n1 get configmaps default",
	}
	trail := &constraints{}
	c := start(t, func(o *apiserver.Options) {
		o.Authorizer, o.Audit = allowed, everything(trail)
		o.Authenticator = authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
			u := &user.DefaultInfo{Name: r.Header.Get("User")}
			if u.Name == agent {
				u.Extra = map[string][]string{"authentication.kubernetes.io/node-name": {"n1"}}
			}
			return &authenticator.Response{User: u}, true, nil
		})
	})
	const cm, secret = "/api/v1/namespaces/default/configmaps/x", "/api/v1/namespaces/default/secrets/x"
	for _, x := range []struct {
		who, as, path string
		headers       []string
		code          int
		want          string // of the message, or the constraint that is audited
	}{
		{"viewer", "jane", cm, nil, 404, "impersonate:user-info"},
		{"viewer", "jane", cm, []string{"Impersonate-Group", "dev"}, 404, "impersonate:user-info"},
		{"viewer", "jane", secret, nil, 403, `secrets "x" is forbidden: User "viewer" cannot impersonate-on:user-info:get resource "secrets" in API group "" in the namespace "default"`},
		{"viewer", "jane", cm, []string{"Impersonate-Group", "system:masters"}, 403, "impersonating the system:masters group is not allowed"},
		{"half", "jane", cm, nil, 403, `users.authentication.k8s.io "jane" is forbidden: User "half" cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope`},
		{"extra", "jane", cm, []string{"Impersonate-Extra-Example.org%2fa", "v"}, 404, "impersonate:user-info"},
		{"extra", "jane", cm, []string{"Impersonate-Extra-A_b", "v"}, 403, "impersonating an invalid key in extra is not allowed"},
		{"viewer", "system:serviceaccount:a:b", cm, nil, 403, `cannot impersonate-on:serviceaccount:get resource "configmaps"`},
		{"viewer", "system:node:n1", cm, nil, 403, `cannot impersonate-on:arbitrary-node:get resource "configmaps"`},
		{"accounts", "system:serviceaccount:a:b", cm, nil, 404, "impersonate:serviceaccount"},
		{"accounts", "system:serviceaccount:c:b", cm, nil, 403, `serviceaccounts.authentication.k8s.io "b" is forbidden: User "accounts" cannot impersonate:serviceaccount resource "serviceaccounts" in API group "authentication.k8s.io" in the namespace "c"`},
		{"nodes", "system:node:n1", cm, nil, 404, "impersonate:arbitrary-node"},
		{agent, "system:node:n1", cm, nil, 404, "impersonate:associated-node"},
		{agent, "system:node:n2", cm, nil, 403, `cannot impersonate-on:arbitrary-node:get resource "configmaps"`},
		{"legacy", "jane", secret, nil, 404, ""},
		{"legacy", "jane", secret, []string{"Impersonate-Group", "system:masters"}, 404, ""},
		{"legacy", "", cm, []string{"Impersonate-Uid", "1"}, 400, "without impersonating a user name"},
		{"legacy", "jane", cm, []string{"Impersonate-Uid", "1"}, 403, `uids.authentication.k8s.io "1" is forbidden: User "legacy" cannot impersonate resource "uids"`},
		{"nobody", "jane", cm, nil, 403, `configmaps "x" is forbidden: User "nobody" cannot impersonate-on:user-info:get resource "configmaps" in API group "" in the namespace "default"`},
	} {
		trail.last = ""
		h := append([]string{"User", x.who}, x.headers...)
		if x.as != "" {
			h = append(h, "Impersonate-User", x.as)
		}
		code, b := c.do("GET", x.path, "", h...)
		got := decodeStatus(t, b).Message
		if code == 404 {
			got = trail.last
		}
		if code != x.code || !strings.Contains(got, x.want) || x.want == "" && got != "" {
			t.Errorf("%s as %q %v: %d %s\nwant %d %s", x.who, x.as, x.headers, code, got, x.code, x.want)
		}
	}
}

func TestUsersGroupsAreNotShared(t *testing.T) {
	var seen []string
	c := start(t, func(o *apiserver.Options) {
		o.Authorizer = rules{"a impersonate users", "a impersonate groups", "jane get /who"}
		o.Authenticator = authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
			return &authenticator.Response{User: &user.DefaultInfo{Name: "a"}}, true, nil
		})
		o.Audit = everything(groups{&seen})
	})
	c.do("GET", "/who", "", "Impersonate-User", "jane", "Impersonate-Group", "g")
	if !slices.Equal(seen, []string{"g", user.AllAuthenticated}) {
		t.Errorf("groups %v", seen)
	}
}

// constraints keeps the constraint of the last event.
type constraints struct{ last string }

func (c *constraints) Write(e *auditv1.Event) {
	if e.AuthenticationMetadata != nil {
		c.last = e.AuthenticationMetadata.ImpersonationConstraint
	}
}

// groups keeps those of the last impersonated user.
type groups struct{ to *[]string }

func (g groups) Write(e *auditv1.Event) {
	if e.ImpersonatedUser != nil {
		*g.to = e.ImpersonatedUser.Groups
	}
}
