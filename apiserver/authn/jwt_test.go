package authn_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/authn"
	"sagong/apiserver/configfile"
)

// provider is an OpenID Connect issuer on loopback.
type provider struct {
	*httptest.Server
	keys  atomic.Pointer[jose.JSONWebKeySet]
	asked atomic.Int32
	says  atomic.Pointer[string] // the issuer its document names
}

func newProvider(t *testing.T) *provider {
	p := &provider{}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration", "/elsewhere":
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": *p.says.Load(), "jwks_uri": p.URL + "/keys"})
		case "/keys":
			p.asked.Add(1)
			_ = json.NewEncoder(w).Encode(p.keys.Load())
		default:
			http.NotFound(w, r)
		}
	}))
	p.says.Store(&p.URL)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}))
}

func newKey(t *testing.T, id string) (*ecdsa.PrivateKey, jose.JSONWebKey) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k, jose.JSONWebKey{Key: k.Public(), KeyID: id, Use: "sig", Algorithm: "ES256"}
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, id string, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// jwtConfig reads one issuer of an AuthenticationConfiguration.
func jwtConfig(t *testing.T, p *provider, text string) apiserver.JWTAuthenticator {
	t.Helper()
	all, err := configfile.Decode[*apiserver.AuthenticationConfiguration]([]byte(fmt.Sprintf(
		"apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    url: %s\n    audiences: [mine, other]\n    audienceMatchPolicy: MatchAny\n%s", p.URL, text)))
	if err != nil {
		t.Fatal(err)
	}
	all.JWT[0].Issuer.CertificateAuthority = p.ca()
	return all.JWT[0]
}

func newJWT(t *testing.T, c apiserver.JWTAuthenticator, now func() time.Time) *authn.JWT {
	t.Helper()
	keys, err := authn.NewIssuerKeys(c.Issuer, now)
	if err != nil {
		t.Fatal(err)
	}
	j, err := authn.NewJWT(c, authn.AllJWTAlgorithms, []string{authn.APIAudience}, keys, now)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestJWT(t *testing.T) {
	p := newProvider(t)
	key, public := newKey(t, "one")
	stranger, _ := newKey(t, "one")
	p.keys.Store(&jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}})
	now := time.Now().Truncate(time.Second)
	clock := func() time.Time { return now }
	plain := "  claimMappings: {username: {claim: sub, prefix: 'o:'}, groups: {claim: groups, prefix: 'g:'}, uid: {claim: uid}}\n"
	expressions := `  claimMappings:
    username: {expression: "claims.sub + '@' + claims.org__dot__name"}
    groups: {expression: "claims.roles.split(',') + ['all']"}
    uid: {expression: "string(claims.nested.list[0].id__dash__no)"}
    extra:
    - {key: example.com/tenant, valueExpression: "claims.?tenant.orValue('')"}
  claimValidationRules:
  - {claim: hd, requiredValue: example.com}
  - {expression: "claims.exp - claims.iat <= 86400", message: lives too long}
  userValidationRules:
  - {expression: "!user.username.startsWith('system:')", message: reserved}
  - {expression: "user.groups.all(g, g != 'root')", message: no root}
`
	base := map[string]any{"iss": p.URL, "aud": "mine", "sub": "jane", "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "jti": "7"}
	good := map[string]any{"hd": "example.com", "org.name": "acme", "roles": "a,b,", "nested": map[string]any{"list": []any{map[string]any{"id-no": "u7"}}}}
	for name, x := range map[string]struct {
		config string
		change map[string]any
		key    any
		want   *user.DefaultInfo
		fail   string
	}{
		"plain": {config: plain, change: map[string]any{"groups": []string{"a", "b"}, "uid": "u"},
			want: &user.DefaultInfo{Name: "o:jane", UID: "u", Groups: []string{"g:a", "g:b"}, Extra: map[string][]string{"authentication.kubernetes.io/credential-id": {"JTI=7"}}}},
		"one group":         {config: plain, change: map[string]any{"groups": "a", "uid": "u", "jti": ""}, want: &user.DefaultInfo{Name: "o:jane", UID: "u", Groups: []string{"g:a"}}},
		"second audience":   {config: plain, change: map[string]any{"aud": []string{"x", "other"}, "uid": "u", "jti": ""}, want: &user.DefaultInfo{Name: "o:jane", UID: "u"}},
		"wrong audience":    {config: plain, change: map[string]any{"aud": "theirs"}, fail: `expected audience in ["mine" "other"] got ["theirs"]`},
		"expired":           {config: plain, change: map[string]any{"exp": now.Unix()}, fail: "token is expired"},
		"never expires":     {config: plain, change: map[string]any{"exp": nil}, fail: "token is expired"},
		"not yet":           {config: plain, change: map[string]any{"nbf": now.Add(6 * time.Minute).Unix()}, fail: "before the nbf (not before) time"},
		"stranger":          {config: plain, key: stranger, fail: "failed to verify signature"},
		"another issuer":    {config: plain, change: map[string]any{"iss": "https://other.example.com"}},
		"no uid":            {config: plain, fail: `parse uid claim "uid": claim not present`},
		"distributed":       {config: plain, change: map[string]any{"_claim_names": map[string]string{"groups": "src"}}, fail: `could not expand distributed claims: oidc: no claim sources`},
		"email unverified":  {config: "  claimMappings: {username: {claim: email, prefix: ''}}\n", change: map[string]any{"email": "a@b", "email_verified": false}, fail: "email not verified"},
		"email":             {config: "  claimMappings: {username: {claim: email, prefix: ''}}\n", change: map[string]any{"email": "a@b", "email_verified": true, "jti": ""}, want: &user.DefaultInfo{Name: "a@b"}},
		"expressions":       {config: expressions, change: good, want: &user.DefaultInfo{Name: "jane@acme", UID: "u7", Groups: []string{"a", "b", "all"}, Extra: map[string][]string{"authentication.kubernetes.io/credential-id": {"JTI=7"}}}},
		"extra":             {config: expressions, change: merge(good, map[string]any{"tenant": "t", "jti": ""}), want: &user.DefaultInfo{Name: "jane@acme", UID: "u7", Groups: []string{"a", "b", "all"}, Extra: map[string][]string{"example.com/tenant": {"t"}}}},
		"required claim":    {config: expressions, change: merge(good, map[string]any{"hd": "evil.com"}), fail: "required claim hd value does not match. Got = evil.com, want = example.com"},
		"no required claim": {config: expressions, change: merge(good, map[string]any{"hd": nil}), fail: "required claim hd not present in ID token"},
		"claim rule":        {config: expressions, change: merge(good, map[string]any{"exp": now.Add(48 * time.Hour).Unix()}), fail: "validation expression 'claims.exp - claims.iat <= 86400' failed: lives too long"},
		"user rule":         {config: expressions, change: merge(good, map[string]any{"sub": "system:admin"}), fail: "failed: reserved"},
		"group rule":        {config: expressions, change: merge(good, map[string]any{"roles": "root"}), fail: "failed: no root"},
		"not a string":      {config: expressions, change: merge(good, map[string]any{"roles": 7}), fail: "error evaluating group claim expression"},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJWT(t, jwtConfig(t, p, x.config), clock)
			signer := any(key)
			if x.key != nil {
				signer = x.key
			}
			resp, ok, err := j.AuthenticateToken(t.Context(), sign(t, jose.ES256, signer, "one", merge(base, x.change)))
			switch {
			case x.want != nil && (err != nil || !ok || !reflect.DeepEqual(resp.User, x.want)):
				t.Errorf("%v %v, want %+v", resp, err, x.want)
			case x.want == nil && (ok || x.fail == "" && err != nil || x.fail != "" && (err == nil || !strings.Contains(err.Error(), x.fail))):
				t.Errorf("%v %t %v, want %q", resp, ok, err, x.fail)
			}
		})
	}
}

// merge returns a with the entries of b; nil removes one.
func merge(a, b map[string]any) map[string]any {
	out := map[string]any{}
	for _, m := range []map[string]any{a, b} {
		for k, v := range m {
			if out[k] = v; v == nil {
				delete(out, k)
			}
		}
	}
	return out
}

// Keys are found when they are needed, found again when the issuer turns them,
// and not asked for by every token that names a key nobody has.
func TestIssuerKeys(t *testing.T) {
	p := newProvider(t)
	first, firstPublic := newKey(t, "first")
	second, secondPublic := newKey(t, "second")
	now := time.Now()
	clock := func() time.Time { return now }
	wrong := "https://someone.else"
	p.says.Store(&wrong)
	c := jwtConfig(t, p, "  claimMappings: {username: {claim: sub, prefix: ''}}\n")
	c.Issuer.DiscoveryURL = p.URL + "/elsewhere"
	j := newJWT(t, c, clock)
	try := func(key any, id string) error {
		_, ok, err := j.AuthenticateToken(t.Context(), sign(t, jose.ES256, key, id, map[string]any{"iss": p.URL, "aud": "mine", "sub": "jane", "exp": now.Add(time.Hour).Unix()}))
		if err == nil && !ok {
			t.Error("not even looked at")
		}
		return err
	}
	if err := try(first, "first"); err == nil || !strings.Contains(err.Error(), "issuer did not match the issuer returned by provider") {
		t.Errorf("a document of another issuer: %v", err)
	}
	p.says.Store(&p.URL)
	p.keys.Store(&jose.JSONWebKeySet{Keys: []jose.JSONWebKey{firstPublic}})
	if err := try(first, "first"); err == nil {
		t.Error("it was asked again at once")
	}
	now = now.Add(time.Minute)
	if err := try(first, "first"); err != nil {
		t.Error(err)
	}
	p.keys.Store(&jose.JSONWebKeySet{Keys: []jose.JSONWebKey{secondPublic}})
	now = now.Add(time.Minute)
	before := p.asked.Load()
	if err := try(second, "second"); err != nil {
		t.Error(err)
	}
	for range 20 {
		if err := try(first, "made up"); err == nil {
			t.Error("signed by nobody")
		}
	}
	if n := p.asked.Load() - before; n != 1 {
		t.Errorf("the keys were asked for %d times", n)
	}
	p.Close()
	now = now.Add(time.Minute)
	if err := try(second, "second"); err != nil {
		t.Errorf("while the issuer is away: %v", err)
	}
}

func TestJWTConfigurationErrors(t *testing.T) {
	p := newProvider(t)
	for text, want := range map[string]string{
		"  claimMappings: {username: {claim: sub}}\n":                                                             "claimMappings.username.prefix: Required value",
		"  claimMappings: {username: {expression: 'claims.sub +'}}\n":                                             "compilation failed",
		"  claimMappings: {username: {expression: 'claims.email'}}\n":                                             "email_verified",
		"  claimMappings: {username: {claim: a, prefix: '', expression: 'b'}}\n":                                  "claim and expression can't both be set",
		"  claimMappings: {username: {claim: sub, prefix: ''}, extra: [{key: A, valueExpression: 'claims.a'}]}\n": "extra",
	} {
		c := jwtConfig(t, p, text)
		if _, err := authn.NewJWT(c, authn.AllJWTAlgorithms, nil, nil, time.Now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	c := jwtConfig(t, p, "  claimMappings: {username: {claim: sub, prefix: ''}}\n")
	if _, err := authn.NewJWT(c, []string{"none"}, nil, nil, time.Now); err == nil {
		t.Error("unsigned tokens are taken")
	}
	if _, err := authn.NewJWT(c, nil, []string{p.URL}, nil, time.Now); err == nil {
		t.Error("the issuer of service accounts may issue tokens of users")
	}
}

// A token of a service account is verified by every key that is kept, RSA ones
// of another server as well.
func TestTokenKeys(t *testing.T) {
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	k, err := authn.NewTokenKeys(old)
	if err != nil {
		t.Fatal(err)
	}
	sa, c := account(t)
	accounts := authn.NewServiceAccounts(authn.AccountOptions{Keys: k, Issuers: []string{"https://a", "https://b"}, Audiences: []string{"api"}, Objects: c, Now: time.Now})
	token, _, err := accounts.Issue(sa, nil, time.Hour, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	fresh, _ := newKey(t, "")
	if err := k.Set(fresh, old.Public()); err != nil {
		t.Fatal(err)
	}
	second, _, err := accounts.Issue(sa, nil, time.Hour, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	check := func(token string, want bool) {
		t.Helper()
		if _, ok, err := accounts.AuthenticateToken(t.Context(), token); ok != want {
			t.Errorf("%t %v, want %t", ok, err, want)
		}
	}
	check(token, true)
	check(second, true)
	if keys := k.Public().Keys; len(keys) != 2 || keys[0].Algorithm != "ES256" || keys[1].Algorithm != "RS256" || !keys[0].IsPublic() {
		t.Errorf("published: %+v", keys)
	}
	turned := authn.NewServiceAccounts(authn.AccountOptions{Keys: k, Issuers: []string{"https://new", "https://a"}, Audiences: []string{"api"}, Objects: c, Now: time.Now})
	if _, ok, err := turned.AuthenticateToken(context.Background(), token); !ok {
		t.Errorf("a token of the issuer of before: %v", err)
	}
	if err := k.Set(fresh); err != nil {
		t.Fatal(err)
	}
	check(token, false)
	check(second, true)
}
