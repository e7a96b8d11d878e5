// Package reviews serves the kinds that are asked and not stored: who am I, may
// I, may they, is this token good, and the tokens of service accounts.
package reviews

import (
	"context"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/resource"
)

// Rules lists what a user may do in a namespace, for SelfSubjectRulesReview, and
// says whether that may not be all.
type Rules interface {
	Rules(u user.Info, namespace string) (rules []rbacv1.PolicyRule, incomplete bool, err error)
}

// Access answers the SubjectAccessReview family.
type Access struct {
	Authorizer authorizer.UnconditionalAuthorizer
	Rules      Rules
}

// Register puts the handlers into an engine.
func (a Access) Register(e *resource.Engine) {
	const group = authorizationv1.GroupName
	e.Handle(group, "subjectaccessreviews", resource.Handler{Create: func(ctx context.Context, _ resource.Caller, _ resource.Target, body runtime.Object, _ *metav1.CreateOptions) (runtime.Object, error) {
		r := body.(*authorizationv1.SubjectAccessReview)
		r.Status = a.decide(ctx, subject(r.Spec), r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
		return r, nil
	}})
	e.Handle(group, "localsubjectaccessreviews", resource.Handler{Create: func(ctx context.Context, _ resource.Caller, t resource.Target, body runtime.Object, _ *metav1.CreateOptions) (runtime.Object, error) {
		r := body.(*authorizationv1.LocalSubjectAccessReview)
		if r.Spec.ResourceAttributes == nil || r.Spec.ResourceAttributes.Namespace != t.Namespace {
			return nil, apierrors.NewBadRequest("spec.resourceAttributes.namespace must match namespace: " + t.Namespace)
		}
		r.Status = a.decide(ctx, subject(r.Spec), r.Spec.ResourceAttributes, nil)
		return r, nil
	}})
	e.Handle(group, "selfsubjectaccessreviews", resource.Handler{Create: func(ctx context.Context, c resource.Caller, _ resource.Target, body runtime.Object, _ *metav1.CreateOptions) (runtime.Object, error) {
		r := body.(*authorizationv1.SelfSubjectAccessReview)
		r.Status = a.decide(ctx, c.User, r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
		return r, nil
	}})
	e.Handle(group, "selfsubjectrulesreviews", resource.Handler{Create: func(_ context.Context, c resource.Caller, _ resource.Target, body runtime.Object, _ *metav1.CreateOptions) (runtime.Object, error) {
		r := body.(*authorizationv1.SelfSubjectRulesReview)
		if r.Spec.Namespace == "" {
			return nil, apierrors.NewBadRequest("no namespace on request")
		}
		r.Status = a.rules(c.User, r.Spec.Namespace)
		return r, nil
	}})
}

func subject(s authorizationv1.SubjectAccessReviewSpec) user.Info {
	u := &user.DefaultInfo{Name: s.User, UID: s.UID, Groups: s.Groups, Extra: map[string][]string{}}
	for k, v := range s.Extra {
		u.Extra[k] = v
	}
	return u
}

func (a Access) decide(ctx context.Context, u user.Info, res *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	rec := authorizer.AttributesRecord{User: u}
	switch {
	case res != nil:
		rec.ResourceRequest = true
		rec.Verb, rec.Namespace, rec.APIGroup, rec.APIVersion = res.Verb, res.Namespace, res.Group, res.Version
		rec.Resource, rec.Subresource, rec.Name = res.Resource, res.Subresource, res.Name
		if rec.APIVersion == "" {
			rec.APIVersion = "*"
		}
		if s := res.FieldSelector; s != nil {
			rec.FieldSelectorRequirements, rec.FieldSelectorParsingErr = fieldSelector(s)
		}
		if s := res.LabelSelector; s != nil {
			rec.LabelSelectorRequirements, rec.LabelSelectorParsingErr = labelSelector(s)
		}
	case path != nil:
		rec.Verb, rec.Path = path.Verb, path.Path
	}
	decision, reason, err := a.Authorizer.Authorize(ctx, rec)
	st := authorizationv1.SubjectAccessReviewStatus{
		Allowed: decision == authorizer.DecisionAllow, Denied: decision == authorizer.DecisionDeny, Reason: reason,
	}
	if err != nil {
		st.EvaluationError = err.Error()
	}
	return st
}

func (a Access) rules(u user.Info, namespace string) authorizationv1.SubjectRulesReviewStatus {
	st := authorizationv1.SubjectRulesReviewStatus{
		ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{},
	}
	rules, incomplete, err := a.Rules.Rules(u, namespace)
	st.Incomplete = incomplete
	if err != nil {
		st.EvaluationError = err.Error()
	}
	for _, r := range rules {
		if len(r.Resources) > 0 {
			st.ResourceRules = append(st.ResourceRules, authorizationv1.ResourceRule{Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames})
		}
		if len(r.NonResourceURLs) > 0 {
			st.NonResourceRules = append(st.NonResourceRules, authorizationv1.NonResourceRule{Verbs: r.Verbs, NonResourceURLs: r.NonResourceURLs})
		}
	}
	return st
}
