package authz_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	authorizationv1beta1 "k8s.io/api/authorization/v1beta1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"

	"sagong/apiserver/authz"
)

// service answers reviews.
type service struct {
	says  authorizationv1.SubjectAccessReviewStatus
	err   error
	asked []string
}

func (s *service) Post(_ context.Context, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	s.asked = append(s.asked, string(b))
	switch out := out.(type) {
	case *authorizationv1.SubjectAccessReview:
		out.Status = s.says
	case *authorizationv1beta1.SubjectAccessReview:
		out.Status = authorizationv1beta1.SubjectAccessReviewStatus{Allowed: s.says.Allowed, Denied: s.says.Denied, Reason: s.says.Reason}
	}
	return s.err
}

func request(who, verb, resource string) authorizer.AttributesRecord {
	return authorizer.AttributesRecord{User: &user.DefaultInfo{Name: who, Groups: []string{"a"}, Extra: map[string][]string{"k": {"v"}}}, Verb: verb, APIVersion: "v1", Resource: resource, Namespace: "ns", ResourceRequest: true}
}

func TestWebhook(t *testing.T) {
	now := time.Now()
	s := &service{}
	w := &authz.Webhook{Service: s, Timeout: time.Minute, AllowTTL: time.Minute, DenyTTL: time.Second, OnFailure: authorizer.DecisionDeny, Now: func() time.Time { return now }}
	decide := func(a authorizer.AttributesRecord, want authorizer.Decision, reason, failure string) {
		t.Helper()
		d, why, err := w.Authorize(t.Context(), a)
		if d != want || why != reason || (err == nil) != (failure == "") || err != nil && !strings.Contains(err.Error(), failure) {
			t.Errorf("%v %q %v, want %v %q %q", d, why, err, want, reason, failure)
		}
	}
	s.says = authorizationv1.SubjectAccessReviewStatus{Allowed: true, Reason: "because"}
	decide(request("jane", "get", "pods"), authorizer.DecisionAllow, "because", "")
	s.says = authorizationv1.SubjectAccessReviewStatus{Denied: true, Reason: "never"}
	decide(request("jane", "get", "pods"), authorizer.DecisionAllow, "because", "") // it was remembered
	now = now.Add(2 * time.Minute)
	decide(request("jane", "get", "pods"), authorizer.DecisionDeny, "never", "")
	s.says = authorizationv1.SubjectAccessReviewStatus{}
	decide(request("jane", "list", "pods"), authorizer.DecisionNoOpinion, "", "")
	s.says = authorizationv1.SubjectAccessReviewStatus{Allowed: true, Denied: true}
	decide(request("jane", "watch", "pods"), authorizer.DecisionDeny, "", "returned both allow and deny response")
	s.err = errors.New("it is gone")
	decide(request("joe", "get", "pods"), authorizer.DecisionDeny, "", "cannot ask the authorization webhook: it is gone")
	decide(request("joe", "get", "pods"), authorizer.DecisionDeny, "", "cannot ask") // a failure is not remembered
	s.err = nil

	a := request("max", "list", "pods")
	f, err := fields.ParseSelector("spec.nodeName=n1,status.phase!=Failed")
	if err != nil {
		t.Fatal(err)
	}
	l, err := labels.Parse("a=b,c notin (d),e,!f")
	if err != nil {
		t.Fatal(err)
	}
	a.FieldSelectorRequirements = f.Requirements()
	a.LabelSelectorRequirements, _ = l.Requirements()
	for _, old := range []bool{false, true} {
		w.V1beta1 = old
		s.asked = nil
		now = now.Add(time.Hour)
		_, _, _ = w.Authorize(t.Context(), a)
		for _, want := range []string{
			`"kind":"SubjectAccessReview"`, `"namespace":"ns"`, `"user":"max"`, `["a"]`, `"extra":{"k":["v"]}`,
			`"fieldSelector":{"requirements":[{"key":"spec.nodeName","operator":"In","values":["n1"]},{"key":"status.phase","operator":"NotIn","values":["Failed"]}]}`,
			`{"key":"a","operator":"In","values":["b"]},{"key":"c","operator":"NotIn","values":["d"]},{"key":"e","operator":"Exists"},{"key":"f","operator":"DoesNotExist"}`,
		} {
			if len(s.asked) != 1 || !strings.Contains(s.asked[0], want) {
				t.Errorf("asked %v, want %s in it", s.asked, want)
			}
		}
	}
}

func TestWebhookMatchConditions(t *testing.T) {
	m, errs := validation.ValidateAndCompileMatchConditions(authorizationcel.NewDefaultCompiler(), []apiserver.WebhookMatchCondition{
		{Expression: "has(request.resourceAttributes)"}, {Expression: "request.user != 'system:admin'"}, {Expression: "request.resourceAttributes.namespace != 'broken' || request.extra['none'][0] == 'x'"},
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	s := &service{says: authorizationv1.SubjectAccessReviewStatus{Allowed: true}}
	w := &authz.Webhook{Service: s, Timeout: time.Minute, Matcher: m, OnFailure: authorizer.DecisionDeny, Now: time.Now}
	for name, x := range map[string]struct {
		ask  authorizer.AttributesRecord
		want authorizer.Decision
		n    int
	}{
		"matches":        {request("jane", "get", "pods"), authorizer.DecisionAllow, 1},
		"another user":   {request("system:admin", "get", "pods"), authorizer.DecisionNoOpinion, 0},
		"not a resource": {authorizer.AttributesRecord{User: &user.DefaultInfo{Name: "jane"}, Verb: "get", Path: "/x"}, authorizer.DecisionNoOpinion, 0},
		"fails": {func() authorizer.AttributesRecord {
			a := request("jane", "get", "pods")
			a.Namespace = "broken"
			return a
		}(), authorizer.DecisionDeny, 0},
	} {
		s.asked = nil
		if d, _, _ := w.Authorize(t.Context(), x.ask); d != x.want || len(s.asked) != x.n {
			t.Errorf("%s: %v, asked %d times, want %v and %d", name, d, len(s.asked), x.want, x.n)
		}
	}
}
