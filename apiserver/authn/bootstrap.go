package authn

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/client"
)

// Bootstrap authenticates the tokens by which new nodes join: Secrets of type
// bootstrap.kubernetes.io/token in kube-system, "id.secret".
type Bootstrap struct {
	Secrets client.Client
	Now     func() time.Time
}

const (
	bootstrapPrefix = "bootstrap-token-"
	// BootstrapGroup is the group every bootstrap token belongs to.
	BootstrapGroup     = "system:bootstrappers"
	bootstrapUser      = "system:bootstrap:"
	bootstrapNamespace = metav1.NamespaceSystem
)

var (
	bootstrapToken = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)
	extraGroup     = regexp.MustCompile(`^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$`)
)

// AuthenticateToken implements authenticator.Token.
func (b Bootstrap) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	parts := bootstrapToken.FindStringSubmatch(token)
	if parts == nil {
		return nil, false, nil
	}
	id, secret := parts[1], parts[2]
	s, err := client.Get[*corev1.Secret](ctx, b.Secrets, bootstrapNamespace, bootstrapPrefix+id)
	if err != nil || s.DeletionTimestamp != nil || s.Type != corev1.SecretTypeBootstrapToken {
		return nil, false, nil
	}
	if subtle.ConstantTimeCompare(s.Data["token-secret"], []byte(secret)) != 1 || string(s.Data["token-id"]) != id {
		return nil, false, nil
	}
	if string(s.Data["usage-bootstrap-authentication"]) != "true" || b.expired(s) {
		return nil, false, nil
	}
	groups := []string{BootstrapGroup}
	for g := range strings.SplitSeq(string(s.Data["auth-extra-groups"]), ",") {
		if g = strings.TrimSpace(g); extraGroup.MatchString(g) {
			groups = append(groups, g)
		}
	}
	return &authenticator.Response{User: &user.DefaultInfo{Name: bootstrapUser + id, Groups: groups}}, true, nil
}

func (b Bootstrap) expired(s *corev1.Secret) bool {
	text := string(s.Data["expiration"])
	if text == "" {
		return false
	}
	at, err := time.Parse(time.RFC3339, text)
	return err != nil || !b.Now().Before(at)
}

// NewBootstrapToken makes a fresh token and the Secret that makes it valid for
// life (for ever when 0).
func NewBootstrapToken(description string, life time.Duration, now time.Time) (string, *corev1.Secret) {
	id, secret := randomText(6), randomText(16)
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: bootstrapNamespace, Name: bootstrapPrefix + id},
		Type:       corev1.SecretTypeBootstrapToken,
		Data: map[string][]byte{
			"token-id": []byte(id), "token-secret": []byte(secret), "description": []byte(description),
			"usage-bootstrap-authentication": []byte("true"), "usage-bootstrap-signing": []byte("true"),
			"auth-extra-groups": []byte("system:bootstrappers:sagong:default-node-token"),
		},
	}
	if life > 0 {
		s.Data["expiration"] = []byte(now.Add(life).UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("%s.%s", id, secret), s
}

// randomText draws n characters of a-z0-9, each as likely as any other.
func randomText(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	out := make([]byte, 0, n)
	var buf [64]byte
	for len(out) < n {
		rand.Read(buf[:]) // never fails: crypto/rand crashes the process instead
		for _, b := range buf {
			if int(b) < 256/len(letters)*len(letters) && len(out) < n {
				out = append(out, letters[int(b)%len(letters)])
			}
		}
	}
	return string(out)
}
