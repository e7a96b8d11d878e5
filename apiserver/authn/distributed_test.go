package authn_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestDistributedClaims(t *testing.T) {
	p := newProvider(t)
	key, public := newKey(t, "one")
	stranger, _ := newKey(t, "one")
	p.keys.Store(&jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}})
	// Another issuer, who knows the groups.
	var groups *httptest.Server
	other, theirs := newKey(t, "two")
	soon := time.Now().Add(time.Hour).Unix()
	answer := func(key any, change map[string]any) string {
		c := map[string]any{"iss": groups.URL, "aud": "mine", "exp": soon, "groups": []string{"g1", "g2"}}
		for k, v := range change {
			c[k] = v
		}
		return sign(t, jose.ES256, key, "two", c)
	}
	groups = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := ""
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": groups.URL, "jwks_uri": groups.URL + "/keys"})
			return
		case "/keys":
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{theirs}})
			return
		case "/good":
			if r.Header.Get("Authorization") != "Bearer pass" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			text = answer(other, nil)
		case "/forged":
			text = answer(stranger, nil)
		case "/for-others":
			text = answer(other, map[string]any{"aud": "them"})
		case "/old":
			text = answer(other, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})
		case "/without":
			text = sign(t, jose.ES256, other, "two", map[string]any{"iss": groups.URL, "aud": "mine", "exp": soon})
		case "/large":
			text = strings.Repeat("x", 2<<20)
		case "/redirect":
			http.Redirect(w, r, "/good", http.StatusFound)
			return
		case "/insecure-issuer":
			text = answer(other, map[string]any{"iss": "http://127.0.0.1"})
		}
		_, _ = w.Write([]byte(text))
	}))
	t.Cleanup(groups.Close)
	local := strings.Replace(groups.URL, "127.0.0.1", "localhost", 1)
	j := newJWT(t, jwtConfig(t, p, "  claimMappings:\n    username: {claim: sub, prefix: ''}\n    groups: {claim: groups, prefix: 'x:'}\n"), time.Now)
	for endpoint, want := range map[string]string{
		groups.URL + "/good":            "",
		groups.URL + "/forged":          "verify distributed claim token: failed to verify signature",
		groups.URL + "/for-others":      `expected audience in ["mine" "other"] got ["them"]`,
		groups.URL + "/old":             "token is expired",
		groups.URL + "/without":         "did not contain claim: groups",
		groups.URL + "/large":           "the answer has more than 1048576 bytes",
		groups.URL + "/redirect":        "error while getting distributed claim JWT: 302 Found",
		groups.URL + "/insecure-issuer": "http://127.0.0.1 must be https://host[/path]",
		local + "/good":                 "is not allowed",
		"http://127.0.0.1/x":            "must be https://host[/path]",
		"https://169.254.169.254/x":     "address 169.254.169.254 is not allowed",
	} {
		token := sign(t, jose.ES256, key, "one", map[string]any{
			"iss": p.URL, "aud": "mine", "sub": "jane", "exp": soon,
			"_claim_names":   map[string]string{"groups": "src"},
			"_claim_sources": map[string]any{"src": map[string]string{"endpoint": endpoint, "access_token": "pass"}},
		})
		resp, ok, err := j.AuthenticateToken(t.Context(), token)
		switch {
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "could not expand distributed claims")):
			t.Errorf("%s: %v, want %s", endpoint, err, want)
		case want == "" && (err != nil || !ok || !slices.Equal(resp.User.GetGroups(), []string{"x:g1", "x:g2"})):
			t.Errorf("%s: %v %v", endpoint, resp, err)
		}
	}
}
