package authn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/client"
)

// AccountOptions say how service-account tokens are made and taken.
type AccountOptions struct {
	Keys *TokenKeys
	// Issuers are whose tokens are taken; the first issues. Default APIAudience.
	Issuers []string
	// Audiences are those of the API itself. Default the first issuer.
	Audiences []string
	// Objects reads ServiceAccounts, Pods, Secrets and Nodes.
	Objects client.Client
	Now     func() time.Time
	// MaxLife bounds what a request for a token may ask for; 0 for upstream's
	// bound alone.
	MaxLife time.Duration
}

// ServiceAccounts issues and checks the tokens of service accounts: JWTs signed
// by the cluster, bound to a pod, secret or node, and void when that is gone.
type ServiceAccounts struct {
	AccountOptions
}

// APIAudience is the audience of tokens meant for the API server.
const APIAudience = "https://kubernetes.default.svc.cluster.local"

type privateClaims struct {
	Kubernetes boundTo `json:"kubernetes.io"`
}

type boundTo struct {
	Namespace      string           `json:"namespace,omitempty"`
	ServiceAccount objectRef        `json:"serviceaccount"`
	Pod            *objectRef       `json:"pod,omitempty"`
	Secret         *objectRef       `json:"secret,omitempty"`
	Node           *objectRef       `json:"node,omitempty"`
	WarnAfter      *jwt.NumericDate `json:"warnafter,omitempty"`
}

type objectRef struct {
	Name string    `json:"name,omitempty"`
	UID  types.UID `json:"uid,omitempty"`
}

// NewServiceAccounts makes the issuer.
func NewServiceAccounts(o AccountOptions) *ServiceAccounts {
	if len(o.Issuers) == 0 {
		o.Issuers = []string{APIAudience}
	}
	if len(o.Audiences) == 0 {
		o.Audiences = o.Issuers[:1]
	}
	return &ServiceAccounts{o}
}

// Issue signs a token for an account. pod, secret and node bind it; each may be
// nil. No audiences means the API's own.
func (s *ServiceAccounts) Issue(sa *corev1.ServiceAccount, audiences []string, life time.Duration, pod *corev1.Pod, secret *corev1.Secret, node *corev1.Node) (string, time.Time, error) {
	if len(audiences) == 0 {
		audiences = s.Audiences
	}
	now := s.Now()
	expires := now.Add(life)
	bound := boundTo{Namespace: sa.Namespace, ServiceAccount: objectRef{sa.Name, sa.UID}}
	if pod != nil {
		bound.Pod = &objectRef{pod.Name, pod.UID}
	}
	if secret != nil {
		bound.Secret = &objectRef{secret.Name, secret.UID}
	}
	if node != nil {
		bound.Node = &objectRef{node.Name, node.UID}
	}
	token, err := jwt.Signed(s.Keys.sign()).Claims(jwt.Claims{
		Issuer: s.Issuers[0], Subject: serviceaccount.MakeUsername(sa.Namespace, sa.Name), Audience: audiences,
		Expiry: jwt.NewNumericDate(expires), NotBefore: jwt.NewNumericDate(now), IssuedAt: jwt.NewNumericDate(now),
		ID: uuid.NewString(),
	}).Claims(privateClaims{bound}).Serialize()
	if err != nil {
		return "", time.Time{}, fmt.Errorf("cannot sign a token for %s/%s: %w", sa.Namespace, sa.Name, err)
	}
	return token, expires, nil
}

// AuthenticateToken implements authenticator.Token. A token that another issuer
// signed is not an error: the next method may know it.
func (s *ServiceAccounts) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	if strings.Count(token, ".") != 2 {
		return nil, false, nil
	}
	iss := unverifiedIssuer(token)
	legacy := iss == legacyIssuer
	if !legacy && !slices.Contains(s.Issuers, iss) {
		return nil, false, nil
	}
	parsed, err := jwt.ParseSigned(token, tokenAlgorithms)
	if err != nil || len(parsed.Headers) != 1 {
		return nil, false, nil
	}
	var public jwt.Claims
	var private privateClaims
	var old legacyClaims
	verified := false
	for _, k := range s.Keys.verifying(parsed.Headers[0].KeyID) {
		if err = parsed.Claims(k.Key, &public, &private, &old); err == nil {
			verified = true
			break
		}
	}
	if !verified {
		return nil, false, errors.New("invalid bearer token: its signature does not verify")
	}
	if public.Issuer != iss {
		return nil, false, errors.New("invalid bearer token: it names two issuers")
	}
	if err := public.ValidateWithLeeway(jwt.Expected{Time: s.Now()}, 0); err != nil {
		if errors.Is(err, jwt.ErrExpired) {
			return nil, false, errors.New("service account token has expired")
		}
		return nil, false, errors.New("service account token is not valid yet")
	}
	wanted, asked := authenticator.AudiencesFrom(ctx)
	if !asked || len(wanted) == 0 {
		wanted = s.Audiences
	}
	has := authenticator.Audiences(public.Audience)
	if legacy {
		has = s.Audiences // they are for the API, and do not say so
	}
	granted := has.Intersect(wanted)
	if len(granted) == 0 {
		return nil, false, fmt.Errorf("token audiences %q is invalid for the target audiences %q", public.Audience, wanted)
	}
	check := func() (user.Info, error) { return s.check(ctx, public, private.Kubernetes) }
	if legacy {
		check = func() (user.Info, error) { return s.checkLegacy(ctx, token, public, old) }
	}
	who, err := check()
	if err != nil {
		return nil, false, err
	}
	return &authenticator.Response{User: who, Audiences: granted}, true, nil
}

// check reads the objects a token stands on: each must exist with the same uid.
func (s *ServiceAccounts) check(ctx context.Context, public jwt.Claims, b boundTo) (user.Info, error) {
	namespace, name, err := serviceaccount.SplitUsername(public.Subject)
	if err != nil || namespace != b.Namespace || name != b.ServiceAccount.Name {
		return nil, errors.New("service account token names two accounts")
	}
	sa, err := client.Get[*corev1.ServiceAccount](ctx, s.Objects, namespace, name)
	if err != nil {
		return nil, fmt.Errorf("service account %s/%s of the token cannot be read: %w", namespace, name, err)
	}
	if sa.UID != b.ServiceAccount.UID || s.leaving(sa) {
		return nil, fmt.Errorf("service account %s/%s of the token has been deleted", namespace, name)
	}
	info := serviceaccount.ServiceAccountInfo{Namespace: namespace, Name: name, UID: string(sa.UID), CredentialID: credentialID(public.ID)}
	if p := b.Pod; p != nil {
		pod, err := client.Get[*corev1.Pod](ctx, s.Objects, namespace, p.Name)
		if err != nil || pod.UID != p.UID || s.leaving(pod) {
			return nil, fmt.Errorf("pod %s/%s that the token is bound to is gone", namespace, p.Name)
		}
		info.PodName, info.PodUID = p.Name, string(p.UID)
	}
	if sec := b.Secret; sec != nil {
		secret, err := client.Get[*corev1.Secret](ctx, s.Objects, namespace, sec.Name)
		if err != nil || secret.UID != sec.UID || s.leaving(secret) {
			return nil, fmt.Errorf("secret %s/%s that the token is bound to is gone", namespace, sec.Name)
		}
	}
	if n := b.Node; n != nil {
		// A token bound to a pod names the node as a fact; one bound to the
		// node alone ends with it.
		if b.Pod == nil {
			node, err := client.Get[*corev1.Node](ctx, s.Objects, "", n.Name)
			if err != nil || node.UID != n.UID || s.leaving(node) {
				return nil, fmt.Errorf("node %s that the token is bound to is gone", n.Name)
			}
		}
		info.NodeName, info.NodeUID = n.Name, string(n.UID)
	}
	return info.UserInfo(), nil
}

// leavingGrace is how long the tokens of an object hold after its time is up, so
// that a pod that still ends can speak to the API; upstream's.
const leavingGrace = time.Minute

// leaving tells whether an object should have been gone for a while, but is held
// by a finalizer or by a pod that does not end.
func (s *ServiceAccounts) leaving(o interface{ GetDeletionTimestamp() *metav1.Time }) bool {
	at := o.GetDeletionTimestamp()
	return at != nil && at.Add(leavingGrace).Before(s.Now())
}

func credentialID(jti string) string {
	if jti == "" {
		return ""
	}
	return "JTI=" + jti
}
