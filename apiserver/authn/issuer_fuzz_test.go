package authn

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/apis/apiserver"
)

// answers gives the same answer to whatever is asked of an issuer, by the path's end.
type answers map[string][]byte

func (a answers) RoundTrip(req *http.Request) (*http.Response, error) {
	for end, body := range a {
		if strings.HasSuffix(req.URL.Path, end) {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(body)), Request: req}, nil
		}
	}
	return &http.Response{StatusCode: http.StatusNotFound, Body: http.NoBody, Request: req}, nil
}

func issuerThatSays(t testing.TB, a answers) *IssuerKeys {
	t.Helper()
	k, err := NewIssuerKeys(apiserver.Issuer{URL: "https://issuer.example"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	k.http.Transport = a
	return k
}

// Issuers are others' servers: what they publish gives keys that can be used, or an
// error.
func FuzzIssuer(f *testing.F) {
	const document = `{"issuer":"https://issuer.example","jwks_uri":"https://issuer.example/keys"}`
	f.Add([]byte(document), []byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"a","use":"sig","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`))
	f.Add([]byte(document), []byte(`{"keys":[null,{},{"kty":"RSA","n":"AA","e":"AQAB"},{"kty":"oct","k":"c2VjcmV0"},{"kty":"OKP","crv":"Ed25519","x":""},{"kty":"RSA","x5c":["AA=="]}]}`))
	f.Add([]byte(`{"issuer":"https://issuer.example","jwks_uri":"/keys"}`), []byte(`[]`))
	f.Fuzz(func(t *testing.T, doc, keys []byte) {
		k := issuerThatSays(t, answers{"/openid-configuration": doc, "/keys": keys})
		found, err := k.Find(t.Context(), "", true)
		if err == nil && k.jwks == "" {
			t.Error("no address of keys and no error")
		}
		for _, key := range found {
			if !key.Valid() || !key.IsPublic() {
				t.Errorf("%+v is no key to verify with", key)
			}
		}
	})
}

// An answer that is larger than any issuer's is not read to its end, and the error says why.
func TestIssuerAnswersAreBounded(t *testing.T) {
	for at, a := range map[string]answers{
		"openid-configuration": {"/openid-configuration": bytes.Repeat([]byte(" "), issuerAnswer+1)},
		"keys":                 {"/openid-configuration": []byte(`{"issuer":"https://issuer.example","jwks_uri":"https://issuer.example/keys"}`), "/keys": append([]byte(`{"keys":[]}`), bytes.Repeat([]byte(" "), issuerAnswer)...)},
	} {
		_, err := issuerThatSays(t, a).Find(t.Context(), "a", true)
		if err == nil || !strings.Contains(err.Error(), at+" is larger than 1048576 bytes") {
			t.Errorf("%s: %v", at, err)
		}
	}
}
