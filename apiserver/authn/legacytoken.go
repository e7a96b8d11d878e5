package authn

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/client"
)

// legacyIssuer is the iss claim of tokens that live in Secrets of type
// kubernetes.io/service-account-token. They do not expire; they end with their
// Secret.
const legacyIssuer = "kubernetes/serviceaccount"

type legacyClaims struct {
	Account   string `json:"kubernetes.io/serviceaccount/service-account.name,omitempty"`
	UID       string `json:"kubernetes.io/serviceaccount/service-account.uid,omitempty"`
	Secret    string `json:"kubernetes.io/serviceaccount/secret.name,omitempty"`
	Namespace string `json:"kubernetes.io/serviceaccount/namespace,omitempty"`
}

// IssueLegacy signs the token that a Secret holds for an account.
func (s *ServiceAccounts) IssueLegacy(sa *corev1.ServiceAccount, secret string) (string, error) {
	token, err := jwt.Signed(s.Keys.sign()).Claims(jwt.Claims{
		Issuer: legacyIssuer, Subject: serviceaccount.MakeUsername(sa.Namespace, sa.Name),
	}).Claims(legacyClaims{sa.Name, string(sa.UID), secret, sa.Namespace}).Serialize()
	if err != nil {
		return "", fmt.Errorf("cannot sign a token for %s/%s: %w", sa.Namespace, sa.Name, err)
	}
	return token, nil
}

// checkLegacy reads the Secret and the account a token stands on.
func (s *ServiceAccounts) checkLegacy(ctx context.Context, token string, public jwt.Claims, c legacyClaims) (user.Info, error) {
	namespace, name, err := serviceaccount.SplitUsername(public.Subject)
	switch {
	case err != nil || namespace != c.Namespace || name != c.Account:
		return nil, errors.New("service account token names two accounts")
	case c.Secret == "" || c.UID == "":
		return nil, errors.New("service account token names no secret or no uid")
	}
	secret, err := client.Get[*corev1.Secret](ctx, s.Objects, namespace, c.Secret)
	if err != nil || secret.DeletionTimestamp != nil {
		return nil, errors.New("service account token has been invalidated")
	}
	if subtle.ConstantTimeCompare(secret.Data[corev1.ServiceAccountTokenKey], []byte(token)) != 1 {
		return nil, errors.New("service account token does not match the one of its secret")
	}
	if since := secret.Labels[invalidSinceLabel]; since != "" {
		return nil, fmt.Errorf("the token in secret %s/%s for service account %s/%s has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '%s' label from the secret to temporarily allow use of this token",
			namespace, c.Secret, namespace, name, invalidSinceLabel)
	}
	sa, err := client.Get[*corev1.ServiceAccount](ctx, s.Objects, namespace, name)
	if err != nil || sa.DeletionTimestamp != nil || string(sa.UID) != c.UID {
		return nil, fmt.Errorf("service account %s/%s of the token has been deleted", namespace, name)
	}
	s.noteUse(ctx, secret)
	return serviceaccount.UserInfo(namespace, name, c.UID), nil
}

// What is known of the use of such a token stands in labels of its Secret, as
// upstream does.
const (
	lastUsedLabel     = "kubernetes.io/legacy-token-last-used"
	invalidSinceLabel = "kubernetes.io/legacy-token-invalid-since"
	// LegacyTokenDate is the form of the days in these labels.
	LegacyTokenDate = "2006-01-02"
)

// noteUse writes down, once a day, that a token is used. That it could not be is
// no reason to refuse the token.
func (s *ServiceAccounts) noteUse(ctx context.Context, secret *corev1.Secret) {
	now := s.Now().UTC()
	today := now.Format(LegacyTokenDate)
	// Another server's clock may be ahead.
	if used := secret.Labels[lastUsedLabel]; used == today || used == now.AddDate(0, 0, 1).Format(LegacyTokenDate) {
		return
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": secret.UID, "labels": map[string]string{lastUsedLabel: today}}})
	if err != nil {
		return
	}
	_, _ = client.PatchOf[*corev1.Secret](ctx, s.Objects, secret.Namespace, secret.Name, client.Patch{Type: types.MergePatchType, Data: body})
}
