package compose

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"

	"sagong/client"
	"sagong/config"
	"sagong/lib/pki"
	"sagong/reconcile"
)

// runServer serves until the test ends.
func runServer(t *testing.T, s *server) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A file of authorities that changes counts at once, for certificates, for those
// who connect and in the ConfigMap of aggregated servers; one that is no good does
// not count.
func TestAuthoritiesThatChange(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	authority := func(name string) *pki.Authority {
		a, err := pki.LoadOrCreateAuthority(filepath.Join(dir, name), "ca", name, now)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	one, two, proxy := authority("one"), authority("two"), authority("proxy")
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s := openServer(t, func(c *config.Config) {
		c.ClientCA, c.RequestHeaderCA, c.RequestHeaderNames = file("clients.pem", one.CertPEM), file("proxies.pem", proxy.CertPEM), []string{"gate"}
	})
	files := make(chan struct{}, 100)
	s.trust.onChange(func() { files <- struct{}{} })
	maps := make(chan *corev1.ConfigMap, 100)
	reconcile.ViewOf[*corev1.ConfigMap](s.hub).OnChange(func(_, m *corev1.ConfigMap) {
		if m != nil && m.Name == extensionAuthentication {
			maps <- m
		}
	})
	runServer(t, s)
	until := func(what string, ok func(*corev1.ConfigMap) bool) {
		t.Helper()
		for {
			select {
			case m := <-maps:
				if ok(m) {
					return
				}
			case <-t.Context().Done():
				t.Fatalf("the ConfigMap never has %s", what)
			}
		}
	}
	holds := func(key string, who ...*pki.Authority) func(*corev1.ConfigMap) bool {
		return func(m *corev1.ConfigMap) bool {
			certs, err := cert.ParseCertsPEM([]byte(m.Data[key]))
			if err != nil || len(certs) != len(who) {
				return false
			}
			for i := range who {
				if !certs[i].Equal(who[i].Certificate) {
					return false
				}
			}
			return true
		}
	}
	const key = "client-ca-file"
	until("the first authority", holds(key, s.ids.ca, one))
	m, err := client.Get[*corev1.ConfigMap](t.Context(), s.system, metav1.NamespaceSystem, extensionAuthentication)
	if err != nil {
		t.Fatal(err)
	}
	if !holds("requestheader-client-ca-file", s.ids.proxyCA, proxy)(m) || m.Data["requestheader-allowed-names"] != `["front-proxy-client","gate"]` || m.Data["requestheader-uid-headers"] != `["X-Remote-Uid"]` {
		t.Errorf("of proxies: %v", m.Data)
	}

	whoami := func(by *pki.Authority) (code int, hints string) {
		t.Helper()
		p, err := by.Issue(pki.Leaf{CommonName: "jane", Organizations: []string{"system:masters"}, Client: true}, now)
		if err != nil {
			t.Fatal(err)
		}
		tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: s.ids.ca.Pool(), GetClientCertificate: func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			for _, ca := range r.AcceptableCAs {
				hints += string(ca)
			}
			return &p.TLS, nil
		}}}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Get("https://" + s.listeners[0].Addr().String() + "/api/v1/namespaces/default")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.ProtoMajor != 2 {
			t.Errorf("it speaks %s", resp.Proto)
		}
		return resp.StatusCode, hints
	}
	expect := func(when string, by *pki.Authority, code int) {
		t.Helper()
		got, hints := whoami(by)
		if got != code {
			t.Errorf("%s: a certificate of %s: %d, want %d", when, by.Certificate.Subject.CommonName, got, code)
		}
		if named := strings.Contains(hints, string(by.Certificate.RawSubject)); named != (code == 200) {
			t.Errorf("%s: authority %s is named to clients: %t", when, by.Certificate.Subject.CommonName, named)
		}
	}
	expect("at first", one, 200)
	expect("at first", two, 401)
	expect("at first", s.ids.ca, 200)

	file("clients.pem", two.CertPEM)
	<-files
	expect("changed", one, 401)
	expect("changed", two, 200)
	expect("changed", s.ids.ca, 200)
	// What another server may still trust stays until it runs out, as upstream has it.
	until("the second authority", holds(key, s.ids.ca, one, two))

	next := m.DeepCopy()
	next.ResourceVersion = ""
	next.Data = map[string]string{"requestheader-allowed-names": "nonsense", "more": "x"}
	if _, err := client.Update(t.Context(), s.system, next); err != nil {
		t.Fatal(err)
	}
	until("what it should, again", func(m *corev1.ConfigMap) bool {
		var names []string
		return holds(key, s.ids.ca, two)(m) && json.Unmarshal([]byte(m.Data["requestheader-allowed-names"]), &names) == nil && len(names) == 2 && m.Data["more"] == ""
	})
}

// A file that holds no certificate changes nothing.
func TestAuthoritiesThatAreNoGood(t *testing.T) {
	dir := t.TempDir()
	a, err := pki.LoadOrCreateAuthority(dir, "ca", "one", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := openServer(t, func(c *config.Config) { c.ClientCA = filepath.Join(dir, "ca.crt") })
	s.files[0].Changed(t.Context(), []byte("nonsense"), nil)
	if clients, _ := s.trust.now(); !strings.Contains(string(clients), string(a.CertPEM)) {
		t.Error("the authority is gone")
	}
}
