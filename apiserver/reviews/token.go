package reviews

import (
	"context"
	"errors"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/authenticator"

	"sagong/apiserver/authn"
	"sagong/apiserver/resource"
	"sagong/client"
)

// Tokens answers TokenReview, SelfSubjectReview and serviceaccounts/token.
type Tokens struct {
	Authenticator authenticator.Token
	Accounts      *authn.ServiceAccounts
	// Client reads accounts and what tokens are bound to.
	Client client.Client
	Now    func() time.Time
}

// badLife says what is wrong with how long a token shall live, in seconds: nothing
// is from ten minutes to 2^32 seconds.
func badLife(seconds int64) string {
	switch {
	case seconds < 10*60:
		return "may not specify a duration less than 10 minutes"
	case seconds > 1<<32:
		return "may not specify a duration larger than 2^32 seconds"
	}
	return ""
}

// Register puts the handlers into an engine.
func (t Tokens) Register(e *resource.Engine) {
	const group = authenticationv1.GroupName
	e.Handle(group, "tokenreviews", resource.Handler{Create: func(ctx context.Context, _ resource.Caller, _ resource.Target, body runtime.Object, _ *metav1.CreateOptions) (runtime.Object, error) {
		r := body.(*authenticationv1.TokenReview)
		if r.Spec.Token == "" {
			return nil, apierrors.NewBadRequest("token is required for TokenReview in authentication")
		}
		var err error
		r.Status, err = t.review(ctx, r.Spec)
		return r, err
	}})
	e.Handle(group, "selfsubjectreviews", resource.Handler{Create: func(_ context.Context, c resource.Caller, _ resource.Target, body runtime.Object, _ *metav1.CreateOptions) (runtime.Object, error) {
		r := body.(*authenticationv1.SelfSubjectReview)
		r.CreationTimestamp = metav1.NewTime(t.Now())
		r.Status.UserInfo = userInfo(&authenticator.Response{User: c.User})
		return r, nil
	}})
	e.Handle("", "serviceaccounts/token", resource.Handler{
		New: func() runtime.Object { return &authenticationv1.TokenRequest{} },
		Create: func(ctx context.Context, c resource.Caller, target resource.Target, body runtime.Object, _ *metav1.CreateOptions) (runtime.Object, error) {
			return t.issue(ctx, c, target, body.(*authenticationv1.TokenRequest))
		},
	})
}

func (t Tokens) review(ctx context.Context, spec authenticationv1.TokenReviewSpec) (st authenticationv1.TokenReviewStatus, _ error) {
	audiences := authenticator.Audiences(spec.Audiences)
	if len(audiences) == 0 {
		audiences = t.Accounts.Audiences
	}
	resp, ok, err := t.Authenticator.AuthenticateToken(authenticator.WithAudiences(ctx, audiences), spec.Token)
	if err != nil {
		st.Error = err.Error()
	}
	if !ok {
		return st, nil
	}
	// A method that does not look at audiences would open doors to tokens for others.
	if len(audiences) > 0 && len(audiences.Intersect(resp.Audiences)) == 0 {
		return st, apierrors.NewInternalError(errors.New("error validating audiences"))
	}
	resp = authn.Authenticated(resp)
	st.Authenticated, st.User, st.Audiences = true, userInfo(resp), resp.Audiences
	return st, nil
}

func userInfo(r *authenticator.Response) authenticationv1.UserInfo {
	u := authenticationv1.UserInfo{Username: r.User.GetName(), UID: r.User.GetUID(), Groups: r.User.GetGroups()}
	for k, v := range r.User.GetExtra() {
		if u.Extra == nil {
			u.Extra = map[string]authenticationv1.ExtraValue{}
		}
		u.Extra[k] = v
	}
	return u
}

func (t Tokens) issue(ctx context.Context, c resource.Caller, target resource.Target, req *authenticationv1.TokenRequest) (runtime.Object, error) {
	kind := authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind()
	for _, m := range []struct{ name, given, is string }{{"name", req.Name, target.Name}, {"namespace", req.Namespace, target.Namespace}} {
		if m.given != "" && m.given != m.is {
			return nil, apierrors.NewInvalid(kind, target.Name, field.ErrorList{
				field.Invalid(field.NewPath("metadata", m.name), m.given, "must match the service account "+m.name+" if specified"),
			})
		}
	}
	sa, err := client.Get[*corev1.ServiceAccount](ctx, t.Client, target.Namespace, target.Name)
	if err != nil {
		return nil, err
	}
	seconds := int64(time.Hour / time.Second)
	if req.Spec.ExpirationSeconds != nil {
		seconds = *req.Spec.ExpirationSeconds
	}
	if text := badLife(seconds); text != "" {
		return nil, apierrors.NewInvalid(kind, "", field.ErrorList{field.Invalid(field.NewPath("spec", "expirationSeconds"), seconds, text)})
	}
	var pod *corev1.Pod
	var secret *corev1.Secret
	var node *corev1.Node
	if ref := req.Spec.BoundObjectRef; ref != nil {
		var uid types.UID
		gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
		switch {
		case gvk.Kind == "Pod" && gvk.Group == "":
			if pod, err = client.Get[*corev1.Pod](ctx, t.Client, target.Namespace, ref.Name); err != nil {
				return nil, err
			}
			uid = pod.UID
			if pod.Spec.ServiceAccountName != sa.Name {
				return nil, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", sa.Name))
			}
			if name := pod.Spec.NodeName; name != "" {
				// A pod on a node that is gone keeps its token without it.
				if n, err := client.Get[*corev1.Node](ctx, t.Client, "", name); err == nil {
					node = n
				} else if !apierrors.IsNotFound(err) {
					return nil, err
				}
			}
		case gvk.Kind == "Secret" && gvk.Group == "":
			if secret, err = client.Get[*corev1.Secret](ctx, t.Client, target.Namespace, ref.Name); err != nil {
				return nil, err
			}
			uid = secret.UID
		case gvk.Kind == "Node" && gvk.Group == "":
			if node, err = client.Get[*corev1.Node](ctx, t.Client, "", ref.Name); err != nil {
				return nil, err
			}
			uid = node.UID
		default:
			return nil, apierrors.NewBadRequest("cannot bind token to object of type " + gvk.String())
		}
		if ref.UID != "" && ref.UID != uid {
			return nil, apierrors.NewConflict(schema.GroupResource{Resource: gvk.Kind}, ref.Name, fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
		}
	}
	if most := int64(t.Accounts.MaxLife / time.Second); most > 0 && seconds > most {
		if c.Warn != nil {
			c.Warn(fmt.Sprintf("requested expiration of %d seconds shortened to %d seconds", seconds, most))
		}
		seconds = most
	}
	token, expires, err := t.Accounts.Issue(sa, req.Spec.Audiences, time.Duration(seconds)*time.Second, pod, secret, node)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	out := req.DeepCopy()
	out.Name, out.Namespace, out.CreationTimestamp = sa.Name, sa.Namespace, metav1.NewTime(t.Now())
	out.Spec.ExpirationSeconds = &seconds
	if len(out.Spec.Audiences) == 0 {
		out.Spec.Audiences = t.Accounts.Audiences
	}
	out.Status = authenticationv1.TokenRequestStatus{Token: token, ExpirationTimestamp: metav1.NewTime(expires)}
	return out, nil
}
