package authz

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	authorizationv1beta1 "k8s.io/api/authorization/v1beta1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"
)

// Poster asks a service.
type Poster interface {
	Post(ctx context.Context, in, out any) error
}

// Webhook has a service decide that speaks SubjectAccessReview:
// https://kubernetes.io/docs/reference/access-authn-authz/webhook/
type Webhook struct {
	Service Poster
	// V1beta1 speaks that version instead of v1.
	V1beta1 bool
	// Timeout bounds one decision.
	Timeout time.Duration
	// Matcher says which requests the service is asked about; nil for all.
	Matcher *authorizationcel.CELMatcher
	// OnFailure is the decision when the service cannot be asked or a match
	// condition fails.
	OnFailure authorizer.Decision
	// AllowTTL and DenyTTL are how long answers hold; 0 for not at all.
	AllowTTL, DenyTTL time.Duration
	Now               func() time.Time

	mu    sync.Mutex
	known map[string]answer
}

type answer struct {
	status authorizationv1.SubjectAccessReviewStatus
	until  time.Time
}

// The cache's bounds: how many answers, and how long what they are about may be,
// in bytes.
const (
	maxAnswers   = 1024
	maxAnswerKey = 10_000
)

// Authorize implements authorizer.UnconditionalAuthorizer.
func (w *Webhook) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	r := &authorizationv1.SubjectAccessReview{Spec: reviewSpec(a)}
	if w.Matcher != nil {
		matches, err := w.Matcher.Eval(ctx, r)
		if err != nil {
			return w.OnFailure, "", err
		}
		if !matches {
			return authorizer.DecisionNoOpinion, "", nil
		}
	}
	key, err := json.Marshal(r.Spec)
	if err != nil {
		return w.OnFailure, "", err
	}
	st, err := w.decide(ctx, string(key), r)
	switch {
	case err != nil:
		return w.OnFailure, "", fmt.Errorf("cannot ask the authorization webhook: %w", err)
	case st.Denied && st.Allowed:
		return authorizer.DecisionDeny, st.Reason, errors.New("webhook subject access review returned both allow and deny response")
	case st.Denied:
		return authorizer.DecisionDeny, st.Reason, nil
	case st.Allowed:
		return authorizer.DecisionAllow, st.Reason, nil
	}
	return authorizer.DecisionNoOpinion, st.Reason, nil
}

func (w *Webhook) decide(ctx context.Context, key string, r *authorizationv1.SubjectAccessReview) (authorizationv1.SubjectAccessReviewStatus, error) {
	now := w.Now()
	w.mu.Lock()
	have, ok := w.known[key]
	w.mu.Unlock()
	if ok && now.Before(have.until) {
		return have.status, nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	st, err := w.ask(ctx, r)
	if err != nil {
		return st, err
	}
	ttl := w.DenyTTL
	if st.Allowed {
		ttl = w.AllowTTL
	}
	if ttl > 0 && len(key) < maxAnswerKey {
		w.mu.Lock()
		if w.known == nil || len(w.known) >= maxAnswers {
			w.known = map[string]answer{}
		}
		w.known[key] = answer{st, now.Add(ttl)}
		w.mu.Unlock()
	}
	return st, nil
}

func (w *Webhook) ask(ctx context.Context, r *authorizationv1.SubjectAccessReview) (authorizationv1.SubjectAccessReviewStatus, error) {
	if !w.V1beta1 {
		r.TypeMeta = metav1.TypeMeta{Kind: "SubjectAccessReview", APIVersion: "authorization.k8s.io/v1"}
		err := w.Service.Post(ctx, r, r)
		return r.Status, err
	}
	old := &authorizationv1beta1.SubjectAccessReview{
		TypeMeta: metav1.TypeMeta{Kind: "SubjectAccessReview", APIVersion: "authorization.k8s.io/v1beta1"},
		Spec:     authorizationv1beta1.SubjectAccessReviewSpec{User: r.Spec.User, Groups: r.Spec.Groups, UID: r.Spec.UID},
	}
	for k, v := range r.Spec.Extra {
		if old.Spec.Extra == nil {
			old.Spec.Extra = map[string]authorizationv1beta1.ExtraValue{}
		}
		old.Spec.Extra[k] = authorizationv1beta1.ExtraValue(v)
	}
	if x := r.Spec.ResourceAttributes; x != nil {
		old.Spec.ResourceAttributes = &authorizationv1beta1.ResourceAttributes{
			Namespace: x.Namespace, Verb: x.Verb, Group: x.Group, Version: x.Version, Resource: x.Resource, Subresource: x.Subresource, Name: x.Name,
			FieldSelector: x.FieldSelector, LabelSelector: x.LabelSelector,
		}
	}
	if x := r.Spec.NonResourceAttributes; x != nil {
		old.Spec.NonResourceAttributes = &authorizationv1beta1.NonResourceAttributes{Path: x.Path, Verb: x.Verb}
	}
	err := w.Service.Post(ctx, old, old)
	st := old.Status
	return authorizationv1.SubjectAccessReviewStatus{Allowed: st.Allowed, Denied: st.Denied, Reason: st.Reason, EvaluationError: st.EvaluationError}, err
}

// reviewSpec says a request in the words of a review.
func reviewSpec(a authorizer.Attributes) authorizationv1.SubjectAccessReviewSpec {
	var s authorizationv1.SubjectAccessReviewSpec
	if u := a.GetUser(); u != nil {
		s.User, s.UID, s.Groups = u.GetName(), u.GetUID(), u.GetGroups()
		for k, v := range u.GetExtra() {
			if s.Extra == nil {
				s.Extra = map[string]authorizationv1.ExtraValue{}
			}
			s.Extra[k] = v
		}
	}
	if !a.IsResourceRequest() {
		s.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: a.GetPath(), Verb: a.GetVerb()}
		return s
	}
	r := &authorizationv1.ResourceAttributes{
		Namespace: a.GetNamespace(), Verb: a.GetVerb(), Group: a.GetAPIGroup(), Version: a.GetAPIVersion(),
		Resource: a.GetResource(), Subresource: a.GetSubresource(), Name: a.GetName(),
	}
	s.ResourceAttributes = r
	// Selectors narrow: one that cannot be read leaves the wider question.
	byField, _ := a.GetFieldSelector()
	var fields []metav1.FieldSelectorRequirement
	for _, q := range byField {
		switch q.Operator {
		case selection.Equals, selection.DoubleEquals, selection.In:
			fields = append(fields, metav1.FieldSelectorRequirement{Key: q.Field, Operator: metav1.FieldSelectorOpIn, Values: []string{q.Value}})
		case selection.NotEquals, selection.NotIn:
			fields = append(fields, metav1.FieldSelectorRequirement{Key: q.Field, Operator: metav1.FieldSelectorOpNotIn, Values: []string{q.Value}})
		}
	}
	if len(fields) > 0 {
		r.FieldSelector = &authorizationv1.FieldSelectorAttributes{Requirements: fields}
	}
	byLabel, _ := a.GetLabelSelector()
	var labels []metav1.LabelSelectorRequirement
	for _, q := range byLabel {
		one := metav1.LabelSelectorRequirement{Key: q.Key(), Values: q.ValuesUnsorted()}
		switch q.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			one.Operator = metav1.LabelSelectorOpIn
		case selection.NotEquals, selection.NotIn:
			one.Operator = metav1.LabelSelectorOpNotIn
		case selection.Exists:
			one.Operator = metav1.LabelSelectorOpExists
		case selection.DoesNotExist:
			one.Operator = metav1.LabelSelectorOpDoesNotExist
		default:
			continue
		}
		labels = append(labels, one)
	}
	if len(labels) > 0 {
		r.LabelSelector = &authorizationv1.LabelSelectorAttributes{Requirements: labels}
	}
	return s
}

// Rules implements Lister: what the service would allow, nobody can list.
func (*Webhook) Rules(user.Info, string) ([]rbacv1.PolicyRule, bool, error) {
	return nil, true, errors.New("webhook authorizer does not support user rule resolution")
}
