package compose

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sagong/config"
	"sagong/lib/pki"
)

// between is a connection of which only the ends are known.
type between struct {
	net.Conn
	local, remote string
}

func (b between) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(b.local))
}
func (b between) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(b.remote))
}

// Who asks by what name sees which certificate; the cluster's own clients always
// see the cluster's own.
func TestServingCertificates(t *testing.T) {
	dir := t.TempDir()
	ca, err := pki.LoadOrCreateAuthority(dir, "other", "other", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, l pki.Leaf) (cert, key string) {
		t.Helper()
		l.Server = true
		p, err := ca.Issue(l, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
		for file, data := range map[string][]byte{cert: p.CertPEM, key: p.KeyPEM} {
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return cert, key
	}
	given, givenKey := write("given", pki.Leaf{CommonName: "given", DNSNames: []string{"api.example.com"}, Addresses: []net.IP{net.IPv4(192, 0, 2, 1)}})
	one, oneKey := write("one", pki.Leaf{CommonName: "one", DNSNames: []string{"one.example.com", "*.many.example.com"}})
	two, twoKey := write("two", pki.Leaf{CommonName: "two", DNSNames: []string{"unused.example.com"}})
	var said bytes.Buffer
	s := &server{
		log: slog.New(slog.NewTextHandler(&said, nil)),
		cfg: config.Config{ClusterCIDR: "10.244.0.0/16", Serving: config.Serving{TLSCert: given, TLSKey: givenKey, SNICerts: []string{one + "," + oneKey, two + "," + twoKey + ":two.example.com,*.one.example.com,192.0.2.7"}}},
		ids: &identities{ca: ca},
	}
	if s.ids.serving, err = pki.NewRenewing(ca, pki.Leaf{CommonName: "own", Server: true}, dir, "own", time.Now); err != nil {
		t.Fatal(err)
	}
	if err := s.openServing(); err != nil {
		t.Fatal(err)
	}
	ask := func(name, local, remote string) string {
		t.Helper()
		h := &tls.ClientHelloInfo{ServerName: name}
		if local != "" {
			h.Conn = between{local: local + ":6443", remote: remote + ":50000"}
		}
		cert, err := s.serving.GetCertificate(h)
		if err != nil {
			t.Fatal(err)
		}
		return cert.Leaf.Subject.CommonName
	}
	for _, x := range []struct{ name, local, remote, want string }{
		{"api.example.com", "192.0.2.1", "198.51.100.1", "given"},
		{"elsewhere.example.com", "192.0.2.1", "198.51.100.1", "given"},
		{"kubernetes", "192.0.2.1", "198.51.100.1", "own"},
		{"kubernetes.default.svc.cluster.local", "192.0.2.1", "198.51.100.1", "own"},
		{"localhost", "127.0.0.1", "127.0.0.1", "own"},
		{"", "192.0.2.1", "198.51.100.1", "given"},
		{"", "192.0.2.2", "198.51.100.1", "own"}, // the given one is not for that address
		{"", "192.0.2.1", "10.244.3.4", "own"},   // a pod
		{"", "192.0.2.1", "192.0.2.1", "own"},    // a process on this machine
		{"", "192.0.2.7", "198.51.100.1", "two"},
		{"ONE.example.com.", "192.0.2.1", "198.51.100.1", "one"},
		{"a.many.example.com", "192.0.2.1", "198.51.100.1", "one"},
		{"two.example.com", "192.0.2.1", "198.51.100.1", "two"},
		{"a.one.example.com", "192.0.2.1", "198.51.100.1", "two"},
		{"unused.example.com", "192.0.2.1", "198.51.100.1", "given"}, // names that were given are all
	} {
		if got := ask(x.name, x.local, x.remote); got != x.want {
			t.Errorf("%q at %s from %s: %s, want %s", x.name, x.local, x.remote, got, x.want)
		}
	}

	// Files that change are in force at once; what does not fit together is not.
	changed := func(file string) {
		for _, f := range s.files {
			if f.Path == file {
				data, err := os.ReadFile(file)
				f.Changed(t.Context(), data, err)
			}
		}
	}
	old, err := os.ReadFile(givenKey)
	if err != nil {
		t.Fatal(err)
	}
	write("given", pki.Leaf{CommonName: "renewed", DNSNames: []string{"api.example.com"}})
	key, err := os.ReadFile(givenKey)
	if err == nil {
		err = os.WriteFile(givenKey, old, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	changed(given)
	if got := ask("api.example.com", "", ""); got != "given" || !strings.Contains(said.String(), "stays in force") {
		t.Errorf("with another's key: %s, %s", got, said.String())
	}
	if err := os.WriteFile(givenKey, key, 0o600); err != nil {
		t.Fatal(err)
	}
	changed(givenKey)
	if got := ask("api.example.com", "", ""); got != "renewed" {
		t.Errorf("after both changed: %s", got)
	}
}
