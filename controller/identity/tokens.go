package identity

import (
	"bytes"
	"context"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// SecretsOfType is a view of Secrets of one type: most Secrets are no
// controller's business, and are not held for one. The caller runs it.
func SecretsOfType(c client.Client, log *slog.Logger, t corev1.SecretType) *reconcile.View[*corev1.Secret] {
	return reconcile.NewView[*corev1.Secret](c, log, client.ListOptions{FieldSelector: fields.OneTermEqualSelector("type", string(t)).String()})
}

type accountTokens struct {
	secrets  *reconcile.View[*corev1.Secret]
	accounts *reconcile.View[*corev1.ServiceAccount]
	ca       []byte
	sign     func(sa *corev1.ServiceAccount, secret string) (string, error)
}

const byAccount = "identity.account"

// NewAccountTokens returns the controller that fills Secrets of type
// kubernetes.io/service-account-token with the authority (PEM), the namespace
// and a token that sign makes, and deletes those whose account is gone. secrets
// is a SecretsOfType.
func NewAccountTokens(h *reconcile.Hub, secrets *reconcile.View[*corev1.Secret], ca []byte, sign func(*corev1.ServiceAccount, string) (string, error)) reconcile.Controller {
	c := &accountTokens{secrets: secrets, accounts: reconcile.ViewOf[*corev1.ServiceAccount](h), ca: ca, sign: sign}
	c.secrets.Index(byAccount, func(s *corev1.Secret) []string {
		return []string{s.Namespace + "/" + s.Annotations[corev1.ServiceAccountNameKey]}
	})
	return c
}

func (*accountTokens) Name() string { return "serviceaccount-token" }

func (c *accountTokens) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.Self(c.secrets),
		reconcile.On(c.accounts, func(old, now *corev1.ServiceAccount, enqueue func(object.Key)) {
			sa := now
			if sa == nil {
				sa = old
			}
			for _, s := range c.secrets.By(byAccount, sa.Namespace+"/"+sa.Name) {
				enqueue(object.KeyOf(s))
			}
		}),
	}
}

func (c *accountTokens) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.secrets.Definition().GVK().GroupKind(), Field: "data of service-account-token"}}
}

func (c *accountTokens) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	s, ok := c.secrets.Get(key.Namespace, key.Name)
	if !ok || s.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	// The view of accounts may be behind that of Secrets: a deletion must not rest
	// on it.
	sa, err := client.Get[*corev1.ServiceAccount](ctx, w, key.Namespace, s.Annotations[corev1.ServiceAccountNameKey])
	if err != nil && !apierrors.IsNotFound(err) {
		return reconcile.Result{}, err
	}
	uid := s.Annotations[corev1.ServiceAccountUIDKey]
	if err != nil || uid != "" && uid != string(sa.UID) {
		return reconcile.Result{}, gone(client.Delete[*corev1.Secret](ctx, w, s.Namespace, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &s.UID}}))
	}
	if uid != "" && len(s.Data[corev1.ServiceAccountTokenKey]) > 0 && bytes.Equal(s.Data[corev1.ServiceAccountRootCAKey], c.ca) && len(s.Data[corev1.ServiceAccountNamespaceKey]) > 0 {
		return reconcile.Result{}, nil
	}
	out := s.DeepCopy()
	out.Annotations[corev1.ServiceAccountUIDKey] = string(sa.UID)
	if out.Data == nil {
		out.Data = map[string][]byte{}
	}
	out.Data[corev1.ServiceAccountRootCAKey] = c.ca
	if len(out.Data[corev1.ServiceAccountNamespaceKey]) == 0 {
		out.Data[corev1.ServiceAccountNamespaceKey] = []byte(s.Namespace)
	}
	if len(out.Data[corev1.ServiceAccountTokenKey]) == 0 {
		token, err := c.sign(sa, s.Name)
		if err != nil {
			return reconcile.Result{}, err
		}
		out.Data[corev1.ServiceAccountTokenKey] = []byte(token)
	}
	_, err = client.Update(ctx, w, out)
	return reconcile.Result{}, gone(err)
}
