package authn

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Certificates authenticates TLS client certificates signed by the cluster's
// authority: the common name is the user, organisations are the groups. It
// verifies each certificate once and remembers until when it holds: a
// verification costs as much as the decoding of a pod, and a client sends the
// same certificate with each of its requests.
type Certificates struct {
	roots    *x509.CertPool
	now      func() time.Time
	verified *verified
}

// NewCertificates makes an authenticator of certificates that lead to roots.
func NewCertificates(roots *x509.CertPool, now func() time.Time) Certificates {
	return Certificates{roots: roots, now: now, verified: &verified{spans: map[string]span{}}}
}

// maxVerified bounds the memory of verified certificates; past it, all are
// verified anew.
const maxVerified = 1024

// verified holds certificates that lead to the roots, by their bytes.
type verified struct {
	mu    sync.RWMutex
	spans map[string]span
}

// span is the time in which a whole chain is valid.
type span struct{ from, until time.Time }

func (v *verified) holds(leaf *x509.Certificate, now time.Time) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	s, ok := v.spans[string(leaf.Raw)]
	return ok && !now.Before(s.from) && !now.After(s.until)
}

func (v *verified) add(leaf *x509.Certificate, chain []*x509.Certificate) {
	s := span{from: leaf.NotBefore, until: leaf.NotAfter}
	for _, c := range chain {
		if c.NotBefore.After(s.from) {
			s.from = c.NotBefore
		}
		if c.NotAfter.Before(s.until) {
			s.until = c.NotAfter
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.spans) >= maxVerified {
		clear(v.spans)
	}
	v.spans[string(leaf.Raw)] = s
}

// AuthenticateRequest implements authenticator.Request.
func (c Certificates) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, false, nil
	}
	leaf, err := c.verify(r)
	if err != nil {
		return nil, false, err
	}
	if leaf.Subject.CommonName == "" {
		return nil, false, nil
	}
	return &authenticator.Response{User: &user.DefaultInfo{
		Name: leaf.Subject.CommonName, Groups: leaf.Subject.Organization,
	}}, true, nil
}

// verify returns the client's certificate when it leads to the roots. r has one.
func (c Certificates) verify(r *http.Request) (*x509.Certificate, error) {
	leaf := r.TLS.PeerCertificates[0]
	if now := c.now(); !c.verified.holds(leaf, now) {
		intermediates := x509.NewCertPool()
		for _, cert := range r.TLS.PeerCertificates[1:] {
			intermediates.AddCert(cert)
		}
		chains, err := leaf.Verify(x509.VerifyOptions{
			Roots: c.roots, Intermediates: intermediates, CurrentTime: now,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		if err != nil {
			return nil, fmt.Errorf("cannot verify client certificate of %q: %w", leaf.Subject.CommonName, err)
		}
		c.verified.add(leaf, chains[0])
	}
	return leaf, nil
}
