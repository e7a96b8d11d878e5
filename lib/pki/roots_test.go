package pki_test

import (
	"testing"
	"time"

	"k8s.io/client-go/transport"

	"sagong/lib/pki"
)

// A caBundle is good or bad, and in the words, as it is for upstream's clients.
func TestRootsAsUpstream(t *testing.T) {
	a, err := pki.LoadOrCreateAuthority(t.TempDir(), "ca", "ca", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	good := string(a.CertPEM)
	const (
		key    = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
		broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
		headed = "-----BEGIN CERTIFICATE-----\nA: b\n\nAAAA\n-----END CERTIFICATE-----\n"
	)
	for _, bundle := range []string{
		good, "text before\n" + good, good + "text after", broken + good, key + good,
		"x", "\n", key, broken, headed, key + broken, key + "rest", good[:40],
	} {
		_, err := pki.Roots([]byte(bundle))
		_, want := transport.TLSConfigFor(&transport.Config{TLS: transport.TLSConfig{CAData: []byte(bundle)}})
		if (err == nil) != (want == nil) || err != nil && err.Error() != want.Error() {
			t.Errorf("%q: %v, want %v", bundle, err, want)
		}
	}
}
