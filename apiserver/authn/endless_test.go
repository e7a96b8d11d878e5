package authn_test

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/apis/apiserver"

	"sagong/apiserver/authn"
)

// TestEndlessIssuer: neither the document nor the keys of an issuer are read without
// end.
func TestEndlessIssuer(t *testing.T) {
	for _, path := range []string{"/.well-known/openid-configuration", "/keys"} {
		const enough = 256 << 20 // more than the buffers of two sockets hold
		heard := make(chan int, 1)
		var s *httptest.Server
		s = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != path {
				_, _ = io.WriteString(w, `{"issuer":"`+s.URL+`","jwks_uri":"`+s.URL+`/keys"}`)
				return
			}
			n := 0
			for block := strings.Repeat(" ", 64<<10); n < enough; n += len(block) {
				if _, err := io.WriteString(w, block); err != nil {
					break
				}
			}
			heard <- n
		}))
		ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
		k, err := authn.NewIssuerKeys(apiserver.Issuer{URL: s.URL, CertificateAuthority: ca}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Find(t.Context(), "", true); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
		s.Close()
		close(heard) // nobody was heard, if time was up before
		if n := <-heard; n >= enough {
			t.Errorf("%s: %d bytes were taken", path, n)
		}
	}
}
