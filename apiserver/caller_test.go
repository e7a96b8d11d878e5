package apiserver_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver"
	"sagong/apiserver/audit"
	"sagong/apiserver/fairness"
	"sagong/client"
	"sagong/client/direct"
)

// rules allows "USER VERB RESOURCE[/SUB] NAMESPACE".
type rules []string

func (r rules) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	what := a.GetResource()
	if a.GetSubresource() != "" {
		what += "/" + a.GetSubresource()
	}
	if !a.IsResourceRequest() {
		what = a.GetPath()
	}
	if slices.Contains(r, strings.TrimSpace(a.GetUser().GetName()+" "+a.GetVerb()+" "+what+" "+a.GetNamespace())) {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

type auditTrail struct {
	mu     sync.Mutex
	events []string
}

func (a *auditTrail) Write(e *auditv1.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	who := "-"
	if e.User.Username != "" {
		who = e.User.Username
	}
	if e.ImpersonatedUser != nil {
		who += " as " + e.ImpersonatedUser.Username
	}
	a.events = append(a.events, string(e.Stage)+" "+who+" "+e.Verb+" "+e.Annotations["authorization.k8s.io/decision"])
}

// everything is the auditor that writes down all of all requests.
func everything(sinks ...audit.Sink) *audit.Auditor {
	return &audit.Auditor{Policy: &auditinternal.Policy{Rules: []auditinternal.PolicyRule{{Level: auditinternal.LevelRequestResponse}}}, Sinks: sinks}
}

func TestCallers(t *testing.T) {
	allowed := rules{"alice list pods default", "alice impersonate users", "bob get configmaps default", "alice get /healthz"}
	trail := &auditTrail{}
	c := start(t, func(o *apiserver.Options) {
		o.Audit = everything(trail)
		o.Authorizer = allowed
		o.Authenticator = authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
			name, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Test ")
			return &authenticator.Response{User: &user.DefaultInfo{Name: name}}, ok, nil
		})
	})
	for _, test := range []struct {
		method, path, as string
		code             int
		want             string
	}{
		{"GET", "/api/v1/namespaces/default/pods", "", 200, ""},
		{"GET", "/api/v1/namespaces/other/pods", "", 403, `pods is forbidden: User "alice" cannot list resource "pods" in API group "" in the namespace "other"`},
		{"GET", "/api/v1/nodes/n", "", 403, `nodes "n" is forbidden: User "alice" cannot get resource "nodes" in API group "" at the cluster scope`},
		{"POST", "/api/v1/namespaces/default/pods/p/exec", "", 403, `pods "p" is forbidden: User "alice" cannot create resource "pods/exec" in API group "" in the namespace "default"`},
		{"DELETE", "/apis/apps/v1/namespaces/default/deployments", "", 403, `deployments.apps is forbidden: User "alice" cannot deletecollection resource "deployments" in API group "apps" in the namespace "default"`},
		{"GET", "/metrics", "", 403, `forbidden: User "alice" cannot get path "/metrics"`},
		{"GET", "/healthz", "", 200, ""},
		{"GET", "/api/v1/namespaces/default/configmaps/x", "bob", 404, `configmaps "x" not found`},
		{"GET", "/api/v1/namespaces/default/secrets/x", "bob", 403, `secrets "x" is forbidden: User "bob" cannot get resource "secrets" in API group "" in the namespace "default"`},
		{"GET", "/api/v1/namespaces/default/pods", "system:serviceaccount:a:b", 403, `serviceaccounts "b" is forbidden: User "alice" cannot impersonate resource "serviceaccounts" in API group "" in the namespace "a"`},
	} {
		headers := []string{"Authorization", "Test alice"}
		if test.as != "" {
			headers = append(headers, "Impersonate-User", test.as)
		}
		code, b := c.do(test.method, test.path, "", headers...)
		if code != test.code || test.want != "" && decodeStatus(t, b).Message != test.want {
			t.Errorf("%s %s as %q: %d %s\nwant %d %s", test.method, test.path, test.as, code, b, test.code, test.want)
		}
	}
	if code, b := c.do("GET", "/api/v1/pods", ""); code != 401 || decodeStatus(t, b).Message != "Unauthorized" {
		t.Errorf("no credentials: %d %s", code, b)
	}
	if !slices.Contains(trail.events, "ResponseComplete alice as bob get forbid") || !slices.Contains(trail.events, "RequestReceived alice list ") || !slices.Contains(trail.events, "ResponseStarted - list ") {
		t.Errorf("audit heard %q", trail.events)
	}
	d := direct.New(c.engine, &user.DefaultInfo{Name: "alice"}, "alice", allowed)
	if _, _, err := client.ListOf[*corev1.Pod](c.ctx, d, "default", client.ListOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := client.Get[*corev1.Pod](c.ctx, d, "default", "p"); !apierrors.IsForbidden(err) {
		t.Errorf("direct get: %v", err)
	}
}

func TestInFlight(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	c := start(t, func(o *apiserver.Options) { o.Fairness = fairness.New(1, 1, nil) })
	c.server.Handle("/slow", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-leave
	}))
	done := make(chan int)
	go func() {
		code, _ := c.do("GET", "/slow", "")
		done <- code
	}()
	<-entered
	code, b, h := c.full("GET", configMaps, "")
	if code != 429 || h.Get("Retry-After") != "1" || string(b) != "Too many requests, please try again later.\n" || h.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%d %s %v", code, b, h)
	}
	if code, _ := c.do("GET", "/readyz", ""); code != 200 {
		t.Errorf("health is refused when the server is busy: %d", code)
	}
	close(leave)
	if code := <-done; code != 200 {
		t.Error(code)
	}
	if code, _ := c.do("GET", configMaps, ""); code != 200 {
		t.Errorf("still busy: %d", code)
	}
}

func TestBodyLimit(t *testing.T) {
	c := start(t)
	big := `{"metadata":{"name":"big"},"data":{"a":"` + strings.Repeat("x", 3<<20) + `"}}`
	code, b := c.do("POST", configMaps, big, "Content-Type", "application/json")
	if code != 413 || decodeStatus(t, b).Message != "Request entity too large: limit is 3145728" {
		t.Fatalf("%d %.200s", code, b)
	}
}

func TestPanicIsAnswered(t *testing.T) {
	c := start(t)
	c.server.Handle("/panic", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("test") }))
	if code, b := c.do("GET", "/panic", ""); code != 500 || !strings.Contains(b, "caused apiserver to panic") {
		t.Fatalf("%d %s", code, b)
	}
}
