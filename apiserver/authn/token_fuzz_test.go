package authn_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net/http"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"

	"sagong/apiserver/authn"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
)

// No token that the cluster did not issue lets anybody in, in whichever header
// it comes, and none ends the server.
func FuzzToken(f *testing.F) {
	c := fake.New(object.NewScheme(kinds.All()...))
	f.Cleanup(func() { c.Close() })
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	keys, err := authn.NewTokenKeys(key)
	if err != nil {
		f.Fatal(err)
	}
	accounts := authn.NewServiceAccounts(authn.AccountOptions{Keys: keys, Objects: c, Now: time.Now})
	chain := authn.Chain{&authn.Tokens{Now: time.Now, Methods: []authenticator.Token{accounts, authn.Bootstrap{Secrets: c, Now: time.Now}}}}
	f.Add("abcdef.0123456789abcdef", "v4.channel.k8s.io")
	f.Add("eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2t1YmVybmV0ZXMuZGVmYXVsdC5zdmMuY2x1c3Rlci5sb2NhbCJ9.", "base64url.bearer.authorization.k8s.io.YQ, x")
	f.Add("..", "base64url.bearer.authorization.k8s.io.")
	f.Fuzz(func(t *testing.T, token, protocols string) {
		for _, h := range []http.Header{
			{"Authorization": {"Bearer " + token}},
			{"Upgrade": {"websocket"}, "Sec-Websocket-Protocol": {protocols}},
		} {
			r := &http.Request{Header: h}
			if resp, ok, _ := chain.AuthenticateRequest(r.WithContext(t.Context())); ok {
				t.Errorf("%v is let in as %v", h, resp.User)
			}
		}
	})
}
