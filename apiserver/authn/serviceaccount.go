package authn

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
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

// ServiceAccounts issues and checks the tokens of service accounts: JWTs signed
// by the cluster, bound to a pod, secret or node, and void when that is gone.
type ServiceAccounts struct {
	issuer    string
	audiences []string // of the API itself
	keyID     string
	key       *ecdsa.PrivateKey
	signer    jose.Signer
	objects   client.Client // reads the objects tokens are bound to
	now       func() time.Time
}

// APIAudience is the audience of tokens meant for the API server.
const APIAudience = "https://kubernetes.default.svc.cluster.local"

type privateClaims struct {
	Kubernetes boundTo `json:"kubernetes.io"`
}

type boundTo struct {
	Namespace      string           `json:"namespace,omitempty"`
	ServiceAccount ref              `json:"serviceaccount"`
	Pod            *ref             `json:"pod,omitempty"`
	Secret         *ref             `json:"secret,omitempty"`
	Node           *ref             `json:"node,omitempty"`
	WarnAfter      *jwt.NumericDate `json:"warnafter,omitempty"`
}

type ref struct {
	Name string    `json:"name,omitempty"`
	UID  types.UID `json:"uid,omitempty"`
}

// NewServiceAccounts signs with key; objects must be allowed to read
// ServiceAccounts, Pods, Secrets and Nodes.
func NewServiceAccounts(key *ecdsa.PrivateKey, objects client.Client, now func() time.Time) (*ServiceAccounts, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("cannot read the token signing key: %w", err)
	}
	sum := sha256.Sum256(der)
	kid := base64.RawURLEncoding.EncodeToString(sum[:])
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: kid}},
		(&jose.SignerOptions{}).WithHeader("kid", kid))
	if err != nil {
		return nil, fmt.Errorf("cannot sign with the token key: %w", err)
	}
	return &ServiceAccounts{
		issuer: APIAudience, audiences: []string{APIAudience},
		keyID: kid, key: key, signer: signer, objects: objects, now: now,
	}, nil
}

// Issue signs a token for an account. pod, secret and node bind it; each may be
// nil. No audiences means the API's own.
func (s *ServiceAccounts) Issue(sa *corev1.ServiceAccount, audiences []string, life time.Duration, pod *corev1.Pod, secret *corev1.Secret, node *corev1.Node) (string, time.Time, error) {
	if len(audiences) == 0 {
		audiences = s.audiences
	}
	now := s.now()
	expires := now.Add(life)
	bound := boundTo{Namespace: sa.Namespace, ServiceAccount: ref{sa.Name, sa.UID}}
	if pod != nil {
		bound.Pod = &ref{pod.Name, pod.UID}
	}
	if secret != nil {
		bound.Secret = &ref{secret.Name, secret.UID}
	}
	if node != nil {
		bound.Node = &ref{node.Name, node.UID}
	}
	token, err := jwt.Signed(s.signer).Claims(jwt.Claims{
		Issuer: s.issuer, Subject: serviceaccount.MakeUsername(sa.Namespace, sa.Name), Audience: audiences,
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
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, false, nil
	}
	var unverified jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&unverified); err != nil || unverified.Issuer != s.issuer {
		return nil, false, nil
	}
	var public jwt.Claims
	var private privateClaims
	if err := parsed.Claims(s.key.Public(), &public, &private); err != nil {
		return nil, false, errors.New("invalid bearer token: its signature does not verify")
	}
	if err := public.ValidateWithLeeway(jwt.Expected{Time: s.now()}, 0); err != nil {
		if errors.Is(err, jwt.ErrExpired) {
			return nil, false, errors.New("service account token has expired")
		}
		return nil, false, errors.New("service account token is not valid yet")
	}
	wanted, asked := authenticator.AudiencesFrom(ctx)
	if !asked || len(wanted) == 0 {
		wanted = s.audiences
	}
	granted := authenticator.Audiences(public.Audience).Intersect(wanted)
	if len(granted) == 0 {
		return nil, false, fmt.Errorf("token audiences %q is invalid for the target audiences %q", public.Audience, wanted)
	}
	who, err := s.check(ctx, public, private.Kubernetes)
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
	sa, err := client.Get[*corev1.ServiceAccount](ctx, s.objects, namespace, name)
	if err != nil {
		return nil, fmt.Errorf("service account %s/%s of the token cannot be read: %w", namespace, name, err)
	}
	if sa.UID != b.ServiceAccount.UID || s.leaving(sa) {
		return nil, fmt.Errorf("service account %s/%s of the token has been deleted", namespace, name)
	}
	info := serviceaccount.ServiceAccountInfo{Namespace: namespace, Name: name, UID: string(sa.UID), CredentialID: credentialID(public.ID)}
	if p := b.Pod; p != nil {
		pod, err := client.Get[*corev1.Pod](ctx, s.objects, namespace, p.Name)
		if err != nil || pod.UID != p.UID || s.leaving(pod) {
			return nil, fmt.Errorf("pod %s/%s that the token is bound to is gone", namespace, p.Name)
		}
		info.PodName, info.PodUID = p.Name, string(p.UID)
	}
	if sec := b.Secret; sec != nil {
		secret, err := client.Get[*corev1.Secret](ctx, s.objects, namespace, sec.Name)
		if err != nil || secret.UID != sec.UID || s.leaving(secret) {
			return nil, fmt.Errorf("secret %s/%s that the token is bound to is gone", namespace, sec.Name)
		}
	}
	if n := b.Node; n != nil {
		// A token bound to a pod names the node as a fact; one bound to the
		// node alone ends with it.
		if b.Pod == nil {
			node, err := client.Get[*corev1.Node](ctx, s.objects, "", n.Name)
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
	return at != nil && at.Add(leavingGrace).Before(s.now())
}

func credentialID(jti string) string {
	if jti == "" {
		return ""
	}
	return "JTI=" + jti
}

// Keys is the JSON Web Key Set by which others check the tokens.
func (s *ServiceAccounts) Keys() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{
		Key: s.key.Public(), KeyID: s.keyID, Algorithm: string(jose.ES256), Use: "sig",
	}}}
}

// Issuer is the iss claim of the tokens.
func (s *ServiceAccounts) Issuer() string { return s.issuer }
