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

// Bounds of a token's life, as upstream has them.
const (
	leastTokenLife = 10 * time.Minute
	mostTokenLife  = 1 << 32 * time.Second
)

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
			req := body.(*authenticationv1.TokenRequest)
			if most := t.Accounts.MaxLife; most > 0 && req.Spec.ExpirationSeconds != nil && *req.Spec.ExpirationSeconds > int64(most/time.Second) {
				if c.Warn != nil {
					c.Warn(fmt.Sprintf("requested expiration of %d seconds shortened to %d seconds", *req.Spec.ExpirationSeconds, int64(most/time.Second)))
				}
				req = req.DeepCopy()
				*req.Spec.ExpirationSeconds = int64(most / time.Second)
			}
			return t.issue(ctx, target, req)
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

func (t Tokens) issue(ctx context.Context, target resource.Target, req *authenticationv1.TokenRequest) (runtime.Object, error) {
	kind := authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind()
	if req.Name != "" && req.Name != target.Name || req.Namespace != "" && req.Namespace != target.Namespace {
		return nil, apierrors.NewBadRequest("the name and namespace of the token request must be those of the service account")
	}
	life := time.Hour
	if req.Spec.ExpirationSeconds != nil {
		life = time.Duration(*req.Spec.ExpirationSeconds) * time.Second
	}
	path := field.NewPath("spec", "expirationSeconds")
	if life < leastTokenLife {
		return nil, apierrors.NewInvalid(kind, "", field.ErrorList{field.Invalid(path, int64(life/time.Second), "may not specify a duration less than 10 minutes")})
	}
	if life > mostTokenLife {
		return nil, apierrors.NewInvalid(kind, "", field.ErrorList{field.Invalid(path, int64(life/time.Second), "may not specify a duration larger than 2^32 seconds")})
	}
	sa, err := client.Get[*corev1.ServiceAccount](ctx, t.Client, target.Namespace, target.Name)
	if err != nil {
		return nil, err
	}
	var pod *corev1.Pod
	var secret *corev1.Secret
	var node *corev1.Node
	if ref := req.Spec.BoundObjectRef; ref != nil {
		var uid types.UID
		switch {
		case ref.Kind == "Pod" && ref.APIVersion == "v1":
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
		case ref.Kind == "Secret" && ref.APIVersion == "v1":
			if secret, err = client.Get[*corev1.Secret](ctx, t.Client, target.Namespace, ref.Name); err != nil {
				return nil, err
			}
			uid = secret.UID
		case ref.Kind == "Node" && ref.APIVersion == "v1":
			if node, err = client.Get[*corev1.Node](ctx, t.Client, "", ref.Name); err != nil {
				return nil, err
			}
			uid = node.UID
		default:
			return nil, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s, Kind=%s", ref.APIVersion, ref.Kind))
		}
		if ref.UID != "" && ref.UID != uid {
			return nil, apierrors.NewConflict(target.Definition.GR(), target.Name, fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
		}
	}
	token, expires, err := t.Accounts.Issue(sa, req.Spec.Audiences, life, pod, secret, node)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	out := req.DeepCopy()
	out.Name, out.Namespace, out.CreationTimestamp = sa.Name, sa.Namespace, metav1.NewTime(t.Now())
	seconds := int64(life / time.Second)
	out.Spec.ExpirationSeconds = &seconds
	if len(out.Spec.Audiences) == 0 {
		out.Spec.Audiences = t.Accounts.Audiences
	}
	out.Status = authenticationv1.TokenRequestStatus{Token: token, ExpirationTimestamp: metav1.NewTime(expires)}
	return out, nil
}
