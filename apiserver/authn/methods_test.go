package authn_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/authn"
	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/lib/pki"
	"sagong/object"
)

// account is a service account and the client that finds it.
func account(t *testing.T, more ...object.Object) (*corev1.ServiceAccount, *fake.Client) {
	t.Helper()
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "bot", UID: "u1"}}
	c := fake.New(object.NewScheme(kinds.All()...), append(more, sa)...)
	t.Cleanup(func() { c.Close() })
	return sa, c
}

// A token in a Secret is good for as long as the Secret holds it.
func TestLegacyToken(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s", Annotations: map[string]string{corev1.ServiceAccountNameKey: "bot"}}, Type: corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{}}
	sa, c := account(t, secret)
	key, _ := newKey(t, "")
	keys, err := authn.NewTokenKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	accounts := authn.NewServiceAccounts(authn.AccountOptions{Keys: keys, Objects: c, Now: time.Now})
	token, err := accounts.IssueLegacy(sa, "s")
	if err != nil {
		t.Fatal(err)
	}
	check := func(ctx context.Context, want string) {
		t.Helper()
		resp, ok, err := accounts.AuthenticateToken(ctx, token)
		if want == "" && (!ok || resp.User.GetName() != "system:serviceaccount:ns:bot" || resp.User.GetUID() != "u1" || !slices.Equal(resp.Audiences, []string{authn.APIAudience})) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v %t %v, want %q", resp, ok, err, want)
		}
	}
	check(t.Context(), "does not match the one of its secret")
	have, err := client.Get[*corev1.Secret](t.Context(), c, "ns", "s")
	if err != nil {
		t.Fatal(err)
	}
	have = have.DeepCopy()
	have.Data = map[string][]byte{corev1.ServiceAccountTokenKey: []byte(token)}
	if _, err := client.Update(t.Context(), c, have); err != nil {
		t.Fatal(err)
	}
	check(t.Context(), "")
	// Its use is written down, once a day.
	label := func(key string) (string, string) {
		t.Helper()
		have, err := client.Get[*corev1.Secret](t.Context(), c, "ns", "s")
		if err != nil {
			t.Fatal(err)
		}
		return have.Labels[key], have.ResourceVersion
	}
	const used, since = "kubernetes.io/legacy-token-last-used", "kubernetes.io/legacy-token-invalid-since"
	today, revision := label(used)
	if _, err := time.Parse(time.DateOnly, today); err != nil {
		t.Errorf("last used: %v", err)
	}
	accounts.Now = func() time.Time { return time.Now().AddDate(0, 0, -1) } // another server's clock is behind
	check(t.Context(), "")
	if _, now := label(used); now != revision {
		t.Error("its use is written down again")
	}
	accounts.Now = func() time.Time { return time.Now().AddDate(0, 0, 2) }
	check(t.Context(), "")
	if later, _ := label(used); later <= today {
		t.Errorf("last used %s, two days after %s", later, today)
	}
	if _, err := client.PatchOf[*corev1.Secret](t.Context(), c, "ns", "s", client.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"labels":{"` + since + `":"2026-01-01"}}}`)}); err != nil {
		t.Fatal(err)
	}
	check(t.Context(), "the token in secret ns/s for service account ns/bot has been marked invalid.")
	if _, err := client.PatchOf[*corev1.Secret](t.Context(), c, "ns", "s", client.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"labels":{"` + since + `":null}}}`)}); err != nil {
		t.Fatal(err)
	}
	check(t.Context(), "")
	check(authenticator.WithAudiences(t.Context(), authenticator.Audiences{"vault"}), "is invalid for the target audiences")
	if err := client.Delete[*corev1.Secret](t.Context(), c, "ns", "s", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	check(t.Context(), "service account token has been invalidated")
}

func TestTokenFile(t *testing.T) {
	list, err := authn.ReadTokenFile(strings.NewReader("secret,jane,7,\"a,b\"\nother,joe,8\n"))
	if err != nil {
		t.Fatal(err)
	}
	resp, ok, err := list.AuthenticateToken(t.Context(), "secret")
	if !ok || err != nil || resp.User.GetName() != "jane" || resp.User.GetUID() != "7" || !slices.Equal(resp.User.GetGroups(), []string{"a", "b"}) {
		t.Error(resp, ok, err)
	}
	if _, ok, _ := list.AuthenticateToken(t.Context(), "secre"); ok {
		t.Error("half a token is good")
	}
	for _, bad := range []string{"a,b\n", ",jane,7\n", "\"a"} {
		if _, err := authn.ReadTokenFile(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// judge is the service that judges tokens.
type judge struct {
	calls  int
	status authenticationv1.TokenReviewStatus
	err    error
	asked  []string
}

func (j *judge) Post(_ context.Context, in, out any) error {
	j.calls++
	j.asked = in.(*authenticationv1.TokenReview).Spec.Audiences
	out.(*authenticationv1.TokenReview).Status = j.status
	return j.err
}

func TestTokenWebhook(t *testing.T) {
	now := time.Now()
	service := &judge{status: authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{
		Username: "jane", UID: "7", Groups: []string{"a"}, Extra: map[string]authenticationv1.ExtraValue{"k": {"v"}},
	}}}
	w := &authn.Webhook{Service: service, Audiences: authenticator.Audiences{"api"}, TTL: time.Minute, Now: func() time.Time { return now }}
	for range 3 {
		resp, ok, err := w.AuthenticateToken(t.Context(), "t")
		if !ok || err != nil || resp.User.GetName() != "jane" || !reflect.DeepEqual(resp.User.GetExtra(), map[string][]string{"k": {"v"}}) || !slices.Equal(resp.Audiences, []string{"api"}) {
			t.Fatal(resp, ok, err)
		}
	}
	if service.calls != 1 || !slices.Equal(service.asked, []string{"api"}) {
		t.Errorf("asked %d times, for %v", service.calls, service.asked)
	}
	vault := authenticator.WithAudiences(t.Context(), authenticator.Audiences{"vault"})
	if _, ok, err := w.AuthenticateToken(vault, "t"); ok || err != nil {
		t.Errorf("a service that knows no audiences vouches for one: %t %v", ok, err)
	}
	service.status.Audiences = []string{"vault", "x"}
	now = now.Add(2 * time.Minute)
	if resp, ok, err := w.AuthenticateToken(vault, "t"); !ok || err != nil || !slices.Equal(resp.Audiences, []string{"vault"}) {
		t.Error(resp, ok, err)
	}
	service.status = authenticationv1.TokenReviewStatus{Error: "expired"}
	if _, ok, err := w.AuthenticateToken(t.Context(), "u"); ok || err == nil || err.Error() != "expired" {
		t.Error(ok, err)
	}
	service.err = errors.New("gone")
	calls := service.calls
	for range 2 {
		if _, ok, err := w.AuthenticateToken(t.Context(), "v"); ok || err == nil || !strings.Contains(err.Error(), "gone") {
			t.Error(ok, err)
		}
	}
	if service.calls != calls+2 {
		t.Error("that the service cannot be reached was remembered")
	}
}

func TestRequestHeaders(t *testing.T) {
	now := time.Now()
	clock := func() time.Time { return now }
	front, err := pki.LoadOrCreateAuthority(t.TempDir(), "ca", "front", now)
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := pki.LoadOrCreateAuthority(t.TempDir(), "ca", "cluster", now)
	if err != nil {
		t.Fatal(err)
	}
	headers := authn.Plain
	headers.Proxies, headers.Allowed = authn.NewCertificates(front.Pool(), clock), []string{"proxy"}
	chain := authn.Cleared{Request: authn.Chain{headers, authn.NewCertificates(cluster.Pool(), clock), authn.Anonymous{Paths: []string{"/livez"}}}, Headers: []authn.RequestHeaders{headers}}
	request := func(by *pki.Authority, cn string) *http.Request {
		r := bearer("")
		r.Header = http.Header{"X-Remote-User": {"jane"}, "X-Remote-Uid": {"7"}, "X-Remote-Group": {"a", "b"}, "X-Remote-Extra-Acme.com%2fteam": {"x"}}
		if by != nil {
			p, err := by.Issue(pki.Leaf{CommonName: cn, Client: true}, now)
			if err != nil {
				t.Fatal(err)
			}
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{p.TLS.Leaf}}
		}
		return r
	}
	r := request(front, "proxy")
	resp, ok, err := chain.AuthenticateRequest(r)
	if !ok || err != nil || resp.User.GetName() != "jane" || resp.User.GetUID() != "7" || !slices.Equal(resp.User.GetGroups(), []string{"a", "b", "system:authenticated"}) ||
		!reflect.DeepEqual(resp.User.GetExtra(), map[string][]string{"acme.com/team": {"x"}}) || len(r.Header) != 0 {
		t.Errorf("%v %t %v, left %v", resp, ok, err, r.Header)
	}
	if resp, ok, _ := chain.AuthenticateRequest(request(front, "other")); ok {
		t.Errorf("a proxy that is not allowed: %v", resp)
	}
	// Its headers must not go on to a server that would believe them.
	own := request(cluster, "joe")
	if resp, ok, err := chain.AuthenticateRequest(own); !ok || resp.User.GetName() != "joe" || len(own.Header) != 0 {
		t.Errorf("a client with headers of its own: %v %v, left %v", resp, err, own.Header)
	}
	r = request(front, "proxy")
	r.Header["X-Remote-Group"] = []string{user.AllUnauthenticated}
	if resp, _, _ := chain.AuthenticateRequest(r); slices.Contains(resp.User.GetGroups(), user.AllAuthenticated) {
		t.Errorf("who was not authenticated, the proxy says, is: %v", resp)
	}
	if resp, ok, _ := chain.AuthenticateRequest(request(nil, "")); ok {
		t.Errorf("headers without a certificate: %v", resp)
	}
	health := request(nil, "")
	health.URL.Path = "/livez"
	if resp, ok, _ := chain.AuthenticateRequest(health); !ok || resp.User.GetName() != "system:anonymous" {
		t.Errorf("health: %v", resp)
	}
}
