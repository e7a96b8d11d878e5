package compose

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/util/cert"

	"sagong/apiserver/authn"
)

// trust is the authorities that certificates may lead to, in PEM: the cluster's
// own, and those of files, which change.
type trust struct {
	own, ownProxy []byte

	mu               sync.Mutex
	clients, proxies []byte      // of files, nil without one
	changed          []func()    // told after a change
	hint             *tls.Config // names the authorities to clients that connect
}

// authorities makes an authenticator of certificates that lead to what a file says
// and to own, and follows the file. What a file holds is kept in to.
func (s *server) authorities(flag, file string, to *[]byte, own []byte) (authn.Certificates, error) {
	pool := func(data []byte) (*x509.CertPool, error) {
		p := x509.NewCertPool()
		p.AppendCertsFromPEM(own)
		all, err := cert.ParseCertsPEM(data)
		for _, c := range all {
			p.AddCert(c)
		}
		return p, err
	}
	var certs authn.Certificates
	data, err := os.ReadFile(file)
	if err == nil {
		var roots *x509.CertPool
		if roots, err = pool(data); err == nil {
			certs = authn.NewCertificates(roots, time.Now)
		}
	}
	if err != nil {
		return certs, fmt.Errorf("cannot use --%s: %w", flag, err)
	}
	*to = data
	s.follow("", file, data, func(_ context.Context, data []byte) error {
		roots, err := pool(data)
		if err != nil {
			return err
		}
		certs.Trust(roots)
		s.trust.set(to, data)
		return nil
	})
	return certs, nil
}

func (t *trust) set(to *[]byte, data []byte) {
	t.mu.Lock()
	*to, t.hint = data, nil
	changed := slices.Clone(t.changed)
	t.mu.Unlock()
	for _, f := range changed {
		f()
	}
}

// onChange has f told of each change of a file.
func (t *trust) onChange(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changed = append(t.changed, f)
}

// now returns the authorities of clients and those of proxies that say who the
// user is, the cluster's own included.
func (t *trust) now() (clients, proxies []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	join := func(a, b []byte) []byte { return slices.Concat(a, []byte("\n"), b) }
	return join(t.own, t.clients), join(t.ownProxy, t.proxies)
}

// serving names to clients that connect the authorities which their certificates
// may be of; base is all else.
func (t *trust) serving(base *tls.Config) func(*tls.ClientHelloInfo) (*tls.Config, error) {
	return func(*tls.ClientHelloInfo) (*tls.Config, error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.hint == nil {
			t.hint = base.Clone()
			t.hint.ClientCAs = x509.NewCertPool()
			for _, data := range [][]byte{t.own, t.clients, t.proxies} {
				t.hint.ClientCAs.AppendCertsFromPEM(data)
			}
		}
		return t.hint, nil
	}
}
