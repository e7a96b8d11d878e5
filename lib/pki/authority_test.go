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
