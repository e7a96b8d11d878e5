package pki

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Renewing is a certificate kept on disk that is issued again, under the same
// name, when it is due or no longer says what it should. It is renewed when it
// is asked for, so nothing runs meanwhile.
type Renewing struct {
	authority *Authority
	leaf      Leaf
	dir, name string
	now       func() time.Time

	mu   sync.Mutex
	pair *Pair
}

// NewRenewing keeps dir/name.crt and dir/name.key.
func NewRenewing(a *Authority, l Leaf, dir, name string, now func() time.Time) (*Renewing, error) {
	r := &Renewing{authority: a, leaf: l, dir: dir, name: name, now: now}
	r.pair = r.load()
	_, err := r.Pair()
	return r, err
}

func (r *Renewing) load() *Pair {
	certPEM, err := os.ReadFile(filepath.Join(r.dir, r.name+".crt"))
	if err != nil {
		return nil
	}
	keyPEM, err := os.ReadFile(filepath.Join(r.dir, r.name+".key"))
	if err != nil {
		return nil
	}
	p, err := NewPair(certPEM, keyPEM)
	if err != nil || p.TLS.Leaf == nil {
		return nil
	}
	have := p.TLS.Leaf
	if have.CheckSignatureFrom(r.authority.Certificate) != nil || have.Subject.CommonName != r.leaf.CommonName {
		return nil
	}
	for _, d := range r.leaf.DNSNames {
		if have.VerifyHostname(d) != nil {
			return nil
		}
	}
	for _, ip := range r.leaf.Addresses {
		if have.VerifyHostname(ip.String()) != nil {
			return nil
		}
	}
	return p
}

// Pair returns the certificate, renewed if it was due.
func (r *Renewing) Pair() (*Pair, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pair != nil && !Due(r.pair.TLS.Leaf, r.now()) {
		return r.pair, nil
	}
	p, err := r.authority.Issue(r.leaf, r.now())
	if err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(r.dir, r.name+".key"), p.KeyPEM, 0o600); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(r.dir, r.name+".crt"), p.CertPEM, 0o644); err != nil {
		return nil, err
	}
	r.pair = p
	return p, nil
}

// GetCertificate serves tls.Config.
func (r *Renewing) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p, err := r.Pair()
	if err != nil {
		return nil, fmt.Errorf("cannot renew certificate %s: %w", r.name, err)
	}
	return &p.TLS, nil
}

// GetClientCertificate serves tls.Config.
func (r *Renewing) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return r.GetCertificate(nil)
}
