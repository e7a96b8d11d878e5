package authn_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/authn"
	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/lib/pki"
	"sagong/object"
)

func bearer(token string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

func TestServiceAccountTokenLivesAsLongAsWhatItIsBoundTo(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	clock := func() time.Time { return now }
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "bot", UID: "u1"}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u2"}}
	c := fake.New(object.NewScheme(kinds.All()...), sa, pod)
	defer c.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := authn.NewTokenKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	accounts := authn.NewServiceAccounts(authn.AccountOptions{Keys: keys, Objects: c, Now: clock})
	token, expires, err := accounts.Issue(sa, nil, time.Hour, pod, nil, nil)
	if err != nil || !expires.Equal(now.Add(time.Hour)) {
		t.Fatal(expires, err)
	}
	check := func(what, token, want string) {
		t.Helper()
		resp, ok, err := accounts.AuthenticateToken(t.Context(), token)
		switch {
		case want == "" && (err != nil || !ok):
			t.Errorf("%s: %v %v", what, ok, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", what, err, want)
		case want == "":
			u := resp.User
			if u.GetName() != "system:serviceaccount:ns:bot" || !slices.Contains(u.GetGroups(), "system:serviceaccounts:ns") ||
				u.GetExtra()["authentication.kubernetes.io/pod-name"][0] != "p" {
				t.Errorf("%s: user %+v", what, u)
			}
		}
	}
	check("fresh", token, "")
	check("signed by another", token[:len(token)-4]+"AAAA", "signature does not verify")
	other, _, err := accounts.Issue(sa, []string{"vault"}, time.Hour, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	check("for another audience", other, `token audiences ["vault"] is invalid`)
	ctx := authenticator.WithAudiences(t.Context(), authenticator.Audiences{"vault"})
	if _, ok, err := accounts.AuthenticateToken(ctx, other); !ok || err != nil {
		t.Errorf("asked for that audience: %v %v", ok, err)
	}
	now = now.Add(2 * time.Hour)
	check("expired", token, "expired")
	now = now.Add(-2 * time.Hour)
	zero := int64(0)
	if err := client.Delete[*corev1.Pod](t.Context(), c, "ns", "p", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	check("pod gone", token, "pod ns/p that the token is bound to is gone")
	if _, ok, err := accounts.AuthenticateToken(t.Context(), "not.a.jwt"); ok || err != nil {
		t.Errorf("a token of another kind must be left to others: %v %v", ok, err)
	}
}

func TestBootstrapToken(t *testing.T) {
	now := time.Now()
	token, secret := authn.NewBootstrapToken("test", time.Hour, now)
	c := fake.New(object.NewScheme(kinds.All()...), secret)
	defer c.Close()
	b := authn.Bootstrap{Secrets: c, Now: func() time.Time { return now }}
	resp, ok, err := b.AuthenticateToken(t.Context(), token)
	if !ok || err != nil || !slices.Contains(resp.User.GetGroups(), authn.BootstrapGroup) {
		t.Fatal(resp, ok, err)
	}
	for what, bad := range map[string]string{"wrong secret": token[:22] + "x", "wrong id": "aaaaaa" + token[6:], "no token": "hello"} {
		if _, ok, err := b.AuthenticateToken(t.Context(), bad); bad != token && (ok || err != nil) {
			t.Errorf("%s: %v %v", what, ok, err)
		}
	}
	now = now.Add(2 * time.Hour)
	if _, ok, _ := b.AuthenticateToken(t.Context(), token); ok {
		t.Error("an expired token is good")
	}
}

func TestChain(t *testing.T) {
	now := time.Now()
	ca, err := pki.LoadOrCreateAuthority(t.TempDir(), "ca", "ca", now)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := pki.LoadOrCreateAuthority(t.TempDir(), "ca", "ca", now)
	if err != nil {
		t.Fatal(err)
	}
	clock := func() time.Time { return now }
	chain := authn.Chain{authn.NewCertificates(ca.Pool(), clock), &authn.Tokens{Now: clock}, authn.Anonymous{}}
	with := func(a *pki.Authority) *http.Request {
		p, err := a.Issue(pki.Leaf{CommonName: "jane", Organizations: []string{"dev"}, Client: true}, now)
		if err != nil {
			t.Fatal(err)
		}
		r := bearer("")
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{p.TLS.Leaf}}
		return r
	}
	resp, ok, err := chain.AuthenticateRequest(with(ca))
	if !ok || err != nil || resp.User.GetName() != "jane" || !slices.Equal(resp.User.GetGroups(), []string{"dev", "system:authenticated"}) {
		t.Errorf("certificate: %v %v %v", resp, ok, err)
	}
	jane := with(ca)
	sum := "X509SHA256=" + fmt.Sprintf("%x", sha256.Sum256(jane.TLS.PeerCertificates[0].Raw))
	if resp, _, _ := chain.AuthenticateRequest(jane); !slices.Equal(resp.User.GetExtra()[user.CredentialIDKey], []string{sum}) {
		t.Errorf("the certificate is not said: %v, want %s", resp.User.GetExtra(), sum)
	}
	if resp, ok, err := chain.AuthenticateRequest(with(stranger)); ok || err == nil {
		t.Errorf("a stranger's certificate is good: %v", resp)
	}
	if resp, ok, err := chain.AuthenticateRequest(bearer("")); !ok || err != nil || resp.User.GetName() != "system:anonymous" {
		t.Errorf("nobody: %v %v %v", resp, ok, err)
	}
	if _, ok, err := chain.AuthenticateRequest(bearer("bad")); ok || err == nil {
		t.Errorf("a bad token must be an error, not anonymous: %v %v", ok, err)
	}
	known := with(ca)
	for range 2 {
		if resp, ok, err := chain.AuthenticateRequest(known); !ok || err != nil || resp.User.GetName() != "jane" {
			t.Errorf("certificate: %v %v %v", resp, ok, err)
		}
	}
	now = now.Add(100 * 365 * 24 * time.Hour)
	if resp, ok, err := chain.AuthenticateRequest(known); ok || err == nil {
		t.Errorf("a certificate that was good once is good for ever: %v", resp)
	}
}

// What another authority signed is refused from the moment that the first is no
// longer trusted, on connections that are open too.
func TestTrustChanges(t *testing.T) {
	now := time.Now()
	var roots [2]*pki.Authority
	var requests [2]*http.Request
	for i := range roots {
		a, err := pki.LoadOrCreateAuthority(t.TempDir(), "ca", "ca", now)
		if err != nil {
			t.Fatal(err)
		}
		p, err := a.Issue(pki.Leaf{CommonName: "jane", Client: true}, now)
		if err != nil {
			t.Fatal(err)
		}
		roots[i], requests[i] = a, bearer("")
		requests[i].TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{p.TLS.Leaf}}
	}
	certs := authn.NewCertificates(roots[0].Pool(), func() time.Time { return now })
	for i := range 2 {
		certs.Trust(roots[i].Pool())
		for j := range 2 {
			if _, ok, err := certs.AuthenticateRequest(requests[j]); ok != (i == j) || (err == nil) != ok {
				t.Errorf("certificate of %d while %d is trusted: %t %v", j, i, ok, err)
			}
		}
	}
}

// A subject may name the user's uid, once.
func TestCertificateUID(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	oid := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}
	for want, values := range map[string][]string{
		"": nil, "u1": {"u1"}, "expected 1 UID, but found multiple: [a b]": {"a", "b"}, "UID cannot be an empty string": {""},
	} {
		subject := pkix.Name{CommonName: "jane"}
		for _, v := range values {
			subject.ExtraNames = append(subject.ExtraNames, pkix.AttributeTypeAndValue{Type: oid, Value: v})
		}
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: subject, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}, &x509.Certificate{Subject: subject}, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(leaf)
		r := bearer("")
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
		resp, ok, err := authn.NewCertificates(pool, time.Now).AuthenticateRequest(r)
		if ok && resp.User.GetUID() != want || !ok && (err == nil || err.Error() != want) {
			t.Errorf("%v: %v %v, want %q", values, resp, err, want)
		}
	}
}

func TestWebSocketTokenIsTakenOutOfTheHeader(t *testing.T) {
	r := bearer("")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Protocol", "base64url.bearer.authorization.k8s.io.aGVsbG8, v5.channel.k8s.io")
	chain := authn.Chain{&authn.Tokens{Now: time.Now}}
	_, _, err := chain.AuthenticateRequest(r)
	got := r.Header.Get("Sec-WebSocket-Protocol")
	if err == nil || got != "v5.channel.k8s.io" {
		t.Errorf("protocols left: %q, error %v", got, err)
	}
}

// A finalizer, or a pod that does not end, must not keep a token alive.
func TestTokenOfWhatShouldBeGoneIsRefused(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	deleted := func(ago time.Duration) *metav1.Time { at := metav1.NewTime(now.Add(-ago)); return &at }
	for name, x := range map[string]struct {
		account, pod *metav1.Time
		want         string
	}{
		"alive":                {nil, nil, ""},
		"pod that still ends":  {nil, deleted(-30 * time.Second), ""},
		"pod a moment late":    {nil, deleted(59 * time.Second), ""},
		"pod that never ends":  {nil, deleted(61 * time.Second), "pod ns/p that the token is bound to is gone"},
		"account that is held": {deleted(61 * time.Second), nil, "service account ns/bot of the token has been deleted"},
	} {
		hold := []string{"example.com/hold"}
		sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "bot", UID: "u1", DeletionTimestamp: x.account, Finalizers: hold}}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u2", DeletionTimestamp: x.pod, Finalizers: hold}}
		c := fake.New(object.NewScheme(kinds.All()...), sa, pod)
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := authn.NewTokenKeys(key)
		if err != nil {
			t.Fatal(err)
		}
		accounts := authn.NewServiceAccounts(authn.AccountOptions{Keys: keys, Objects: c, Now: func() time.Time { return now }})
		token, _, err := accounts.Issue(sa, nil, time.Hour, pod, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, ok, err := accounts.AuthenticateToken(t.Context(), token)
		if x.want == "" && !ok || x.want != "" && (err == nil || err.Error() != x.want) {
			t.Errorf("%s: %v %v, want %q", name, ok, err, x.want)
		}
		c.Close()
	}
}
