package identity

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// Fields of a bootstrap token's Secret:
// https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/
const (
	tokenID         = "token-id"
	tokenSecret     = "token-secret"
	tokenExpiration = "expiration"
	tokenSigning    = "usage-bootstrap-signing"
)

type tokenCleaner struct {
	secrets *reconcile.View[*corev1.Secret]
	now     func() time.Time
}

// NewTokenCleaner returns the controller that deletes bootstrap tokens once they
// have expired. secrets is a SecretsOfType.
func NewTokenCleaner(secrets *reconcile.View[*corev1.Secret], now func() time.Time) reconcile.Controller {
	return &tokenCleaner{secrets, now}
}

func (*tokenCleaner) Name() string { return "token-cleaner" }

func (c *tokenCleaner) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.Self(c.secrets)}
}

func (c *tokenCleaner) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.secrets.Definition().GVK().GroupKind(), Field: "expired bootstrap tokens"}}
}

func (c *tokenCleaner) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	s, ok := c.secrets.Get(key.Namespace, key.Name)
	if !ok || key.Namespace != metav1.NamespaceSystem {
		return reconcile.Result{}, nil
	}
	left, expires := tokenLeft(s, c.now())
	switch {
	case !expires:
		return reconcile.Result{}, nil
	case left > 0:
		return reconcile.Result{After: left}, nil
	}
	return reconcile.Result{}, gone(client.Delete[*corev1.Secret](ctx, w, s.Namespace, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &s.UID}}))
}

// tokenLeft is how long a token is good for. What cannot be read as a time is
// over.
func tokenLeft(s *corev1.Secret, now time.Time) (left time.Duration, expires bool) {
	text := string(s.Data[tokenExpiration])
	if text == "" {
		return 0, false
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, true
	}
	return at.Sub(now), true
}

// ClusterInfo is the ConfigMap of kube-public by which joining nodes learn of
// the cluster, signed with every token that they may know.
const ClusterInfo = "cluster-info"

const (
	infoKubeconfig = "kubeconfig"
	infoSignature  = "jws-kubeconfig-"
)

type bootstrapSigner struct {
	secrets *reconcile.View[*corev1.Secret]
	maps    *reconcile.View[*corev1.ConfigMap]
	now     func() time.Time
}

// NewBootstrapSigner returns the controller that signs ClusterInfo with the
// bootstrap tokens meant for it. secrets is a SecretsOfType.
func NewBootstrapSigner(h *reconcile.Hub, secrets *reconcile.View[*corev1.Secret], now func() time.Time) reconcile.Controller {
	return &bootstrapSigner{secrets, reconcile.ViewOf[*corev1.ConfigMap](h), now}
}

func (*bootstrapSigner) Name() string { return "bootstrap-signer" }

var clusterInfoKey = object.Key{Namespace: metav1.NamespacePublic, Name: ClusterInfo}

func (c *bootstrapSigner) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.On(c.maps, func(_, now *corev1.ConfigMap, enqueue func(object.Key)) {
			if now != nil && object.KeyOf(now) == clusterInfoKey {
				enqueue(clusterInfoKey)
			}
		}),
		reconcile.On(c.secrets, func(_, _ *corev1.Secret, enqueue func(object.Key)) { enqueue(clusterInfoKey) }),
	}
}

func (c *bootstrapSigner) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.maps.Definition().GVK().GroupKind(), Field: "signatures of " + ClusterInfo}}
}

func (c *bootstrapSigner) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	m, ok := c.maps.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	content, ok := m.Data[infoKubeconfig]
	if !ok {
		return reconcile.Result{}, nil
	}
	data := maps.Clone(m.Data)
	maps.DeleteFunc(data, func(k, _ string) bool { return strings.HasPrefix(k, infoSignature) })
	again := time.Duration(0)
	for _, s := range c.secrets.All() {
		id, secret := string(s.Data[tokenID]), string(s.Data[tokenSecret])
		left, expires := tokenLeft(s, c.now())
		if s.Namespace != metav1.NamespaceSystem || s.DeletionTimestamp != nil || s.Name != "bootstrap-token-"+id || secret == "" ||
			string(s.Data[tokenSigning]) != "true" || expires && left <= 0 {
			continue
		}
		if expires && (again == 0 || left < again) {
			again = left
		}
		signature, err := sign(content, id, secret)
		if err != nil {
			return reconcile.Result{}, err
		}
		data[infoSignature+id] = signature
	}
	if maps.Equal(data, m.Data) {
		return reconcile.Result{After: again}, nil
	}
	out := m.DeepCopy()
	out.Data = data
	_, err := client.Update(ctx, w, out)
	return reconcile.Result{After: again}, gone(err)
}

// sign makes the detached JSON Web Signature (RFC 7515, HS256) by which who knows
// the token knows that the content is the cluster's. The library for these wants
// longer keys than the secrets of tokens are.
func sign(content, id, secret string) (string, error) {
	header, err := json.Marshal(struct {
		Algorithm string `json:"alg"`
		Key       string `json:"kid"`
	}{"HS256", id})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(encode(header) + "." + encode([]byte(content))))
	return encode(header) + ".." + encode(mac.Sum(nil)), nil
}
