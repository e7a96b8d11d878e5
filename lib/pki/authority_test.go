package pki

import (
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAuthoritySurvivesRestartAndRefusesHalfAPair(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	a, err := LoadOrCreateAuthority(dir, "ca", "test-ca", now)
	if err != nil {
		t.Fatal(err)
	}
	b, err := LoadOrCreateAuthority(dir, "ca", "test-ca", now)
	if err != nil {
		t.Fatal(err)
	}
	if a.Hash() != b.Hash() {
		t.Fatal("a second load made another authority")
	}
	// A crash of the first start leaves the key alone.
	if err := os.Remove(filepath.Join(dir, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	if b, err = LoadOrCreateAuthority(dir, "ca", "test-ca", now); err != nil || a.Hash() != b.Hash() {
		t.Fatalf("an authority without its certificate: %v", err)
	}
	old, err := b.Issue(Leaf{CommonName: "api", DNSNames: []string{"a"}, Server: true}, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.TLS.Leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), DNSName: "a"}); err != nil {
		t.Errorf("who trusts the first certificate does not trust what the second signs: %v", err)
	}
	other, err := LoadOrCreateAuthority(dir, "other", "test-ca", now)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "other.crt"), a.CertPEM, 0o644); err != nil || other.Hash() == a.Hash() {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateAuthority(dir, "other", "test-ca", now); err == nil {
		t.Error("a certificate was accepted with another one's key")
	}
	if err := os.Remove(filepath.Join(dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateAuthority(dir, "ca", "test-ca", now); err == nil {
		t.Fatal("an authority without its key was accepted")
	}
}

func TestIssuedCertificateVerifies(t *testing.T) {
	now := time.Now()
	a, err := LoadOrCreateAuthority(t.TempDir(), "ca", "test-ca", now)
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.Issue(Leaf{CommonName: "api", DNSNames: []string{"kubernetes"}, Addresses: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true}, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"kubernetes", "127.0.0.1"} {
		if _, err := p.TLS.Leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), DNSName: host}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, err := p.TLS.Leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), DNSName: "other"}); err == nil {
		t.Error("a name that is not in the certificate verifies")
	}
	if _, err := p.TLS.Leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("a server certificate verifies for clients")
	}
}

func TestRenewingRenewsWhenDueOrChanged(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	clock := func() time.Time { return now }
	a, err := LoadOrCreateAuthority(dir, "ca", "test-ca", now)
	if err != nil {
		t.Fatal(err)
	}
	serial := func(l Leaf) string {
		r, err := NewRenewing(a, l, dir, "api", clock)
		if err != nil {
			t.Fatal(err)
		}
		p, err := r.Pair()
		if err != nil {
			t.Fatal(err)
		}
		return p.TLS.Leaf.SerialNumber.String()
	}
	leaf := Leaf{CommonName: "api", DNSNames: []string{"a"}, Server: true}
	first := serial(leaf)
	if serial(leaf) != first {
		t.Error("a fresh certificate was renewed")
	}
	leaf.DNSNames = []string{"a", "b"}
	second := serial(leaf)
	if second == first {
		t.Error("a certificate that lacks a name was kept")
	}
	now = now.Add(LeafLifetime * 3 / 4)
	if serial(leaf) == second {
		t.Error("a certificate with a quarter of its life left was kept")
	}
}

// A crash between the two files of a renewal leaves a key and a certificate that
// do not belong together.
func TestRenewingIssuesAnewWhenKeyAndCertificateDiffer(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	a, err := LoadOrCreateAuthority(dir, "ca", "test-ca", now)
	if err != nil {
		t.Fatal(err)
	}
	leaf := Leaf{CommonName: "api", Server: true}
	for range 2 {
		r, err := NewRenewing(a, leaf, dir, "api", time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Pair(); err != nil {
			t.Fatal(err)
		}
		if r.load() == nil {
			t.Error("what was written cannot be loaded")
		}
		key, err := LoadKey(filepath.Join(dir, "ca.key"))
		if err != nil {
			t.Fatal(err)
		}
		if err := SaveKey(filepath.Join(dir, "api.key"), key); err != nil {
			t.Fatal(err)
		}
	}
}
