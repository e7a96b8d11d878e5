package reviews

import (
	"context"
	"fmt"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// asked keeps the selectors it was asked with.
type asked struct{ fields, labels string }

func (a *asked) Authorize(_ context.Context, r authorizer.Attributes) (authorizer.Decision, string, error) {
	f, ferr := r.GetFieldSelector()
	l, lerr := r.GetLabelSelector()
	a.fields, a.labels = fmt.Sprint(f, ferr != nil), fmt.Sprint(l, lerr != nil)
	return authorizer.DecisionAllow, "", nil
}

// A review is judged with the selectors it names, in either form.
func TestReviewSelectors(t *testing.T) {
	for name, x := range map[string]struct {
		field          *authorizationv1.FieldSelectorAttributes
		label          *authorizationv1.LabelSelectorAttributes
		fields, labels string
	}{
		"none": {nil, nil, "[] false", " false"},
		"raw": {&authorizationv1.FieldSelectorAttributes{RawSelector: "a=b,c!=d"}, &authorizationv1.LabelSelectorAttributes{RawSelector: "a in (b)"},
			"[{= a b} {!= c d}] false", "a in (b) false"},
		"requirements": {
			&authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{{Key: "a", Operator: "In", Values: []string{"b"}}, {Key: "c", Operator: "NotIn", Values: []string{"d"}}}},
			&authorizationv1.LabelSelectorAttributes{Requirements: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Exists"}}}, "[{= a b} {!= c d}] false", "a false"},
		"what cannot be read widens": {
			&authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{{Key: "a", Operator: "In", Values: []string{"b", "c"}}, {Key: "c", Operator: "In", Values: []string{"d"}}}},
			&authorizationv1.LabelSelectorAttributes{RawSelector: "a in"}, "[{= c d}] true", " true"},
	} {
		got := &asked{}
		Access{Authorizer: got}.decide(t.Context(), &user.DefaultInfo{Name: "jane"}, &authorizationv1.ResourceAttributes{Verb: "list", Resource: "pods", FieldSelector: x.field, LabelSelector: x.label}, nil)
		if got.fields != x.fields || got.labels != x.labels {
			t.Errorf("%s: %s, %s; want %s, %s", name, got.fields, got.labels, x.fields, x.labels)
		}
	}
}
