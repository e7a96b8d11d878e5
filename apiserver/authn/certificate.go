package authn

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Certificates authenticates TLS client certificates that lead to some authorities:
// the common name is the user, organisations are the groups. It verifies each
// certificate once and remembers until when it holds: a verification costs as much
// as the decoding of a pod, and a client sends the same certificate with each of
// its requests.
type Certificates struct {
	trust *atomic.Pointer[trust]
	now   func() time.Time
	// Expires, when set, is told how long the certificate of each request is valid
	// yet; what is over is negative.
	Expires func(time.Duration)
}

// NewCertificates makes an authenticator of certificates that lead to roots.
func NewCertificates(roots *x509.CertPool, now func() time.Time) Certificates {
	c := Certificates{trust: &atomic.Pointer[trust]{}, now: now}
	c.Trust(roots)
	return c
}

// Trust has certificates lead to other roots from now on, those of connections that
// are open too.
func (c Certificates) Trust(roots *x509.CertPool) {
	c.trust.Store(&trust{roots: roots, spans: map[string]span{}})
}

// maxVerified bounds the memory of verified certificates; past it, all are
// verified anew.
const maxVerified = 1024

// trust is roots and the certificates that lead to them, by their bytes.
type trust struct {
	roots *x509.CertPool

	mu    sync.RWMutex
	spans map[string]span
}

// span is the time in which a whole chain is valid, and who its leaf names.
type span struct {
	from, until time.Time
	who         *authenticator.Response // nil for nobody
}

func (t *trust) holds(leaf *x509.Certificate, now time.Time) (span, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s, ok := t.spans[string(leaf.Raw)]
	return s, ok && !now.Before(s.from) && !now.After(s.until)
}

func (t *trust) add(leaf *x509.Certificate, chain []*x509.Certificate, who *authenticator.Response) span {
	s := span{from: leaf.NotBefore, until: leaf.NotAfter, who: who}
	for _, c := range chain {
		if c.NotBefore.After(s.from) {
			s.from = c.NotBefore
		}
		if c.NotAfter.Before(s.until) {
			s.until = c.NotAfter
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.spans) >= maxVerified {
		clear(t.spans)
	}
	t.spans[string(leaf.Raw)] = s
	return s
}

// AuthenticateRequest implements authenticator.Request.
func (c Certificates) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, false, nil
	}
	s, err := c.verify(r, userOf)
	if err != nil {
		return nil, false, err
	}
	return s.who, s.who != nil, nil
}

// verify finds how long the client's certificate leads to the roots, and whom it
// names. r has one.
func (c Certificates) verify(r *http.Request, name func(*x509.Certificate) (*authenticator.Response, error)) (span, error) {
	leaf, t := r.TLS.PeerCertificates[0], c.trust.Load()
	now := c.now()
	if c.Expires != nil {
		c.Expires(leaf.NotAfter.Sub(now))
	}
	if s, ok := t.holds(leaf, now); ok {
		return s, nil
	}
	intermediates := x509.NewCertPool()
	for _, cert := range r.TLS.PeerCertificates[1:] {
		intermediates.AddCert(cert)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: t.roots, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return span{}, fmt.Errorf("cannot verify client certificate of %q: %w", leaf.Subject.CommonName, err)
	}
	who, err := name(leaf)
	if err != nil {
		return span{}, err
	}
	return t.add(leaf, chains[0], who), nil
}

// userOf is whom a certificate names, nil for nobody.
func userOf(leaf *x509.Certificate) (*authenticator.Response, error) {
	if leaf.Subject.CommonName == "" {
		return nil, nil
	}
	uid, err := uidOf(leaf)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(leaf.Raw)
	return &authenticator.Response{User: &user.DefaultInfo{
		Name: leaf.Subject.CommonName, UID: uid, Groups: leaf.Subject.Organization,
		Extra: map[string][]string{user.CredentialIDKey: {"X509SHA256=" + hex.EncodeToString(sum[:])}},
	}}, nil
}

// subjectUID is the attribute of a subject that is the user's uid, under
// Kubernetes' own number.
var subjectUID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}

func uidOf(leaf *x509.Certificate) (string, error) {
	var uids []string
	for _, n := range leaf.Subject.Names {
		if !n.Type.Equal(subjectUID) {
			continue
		}
		uid, ok := n.Value.(string)
		if !ok {
			return "", errors.New("unable to parse UID into a string")
		}
		uids = append(uids, uid)
	}
	switch {
	case len(uids) == 0:
		return "", nil
	case len(uids) > 1:
		return "", fmt.Errorf("expected 1 UID, but found multiple: %v", uids)
	case uids[0] == "":
		return "", errors.New("UID cannot be an empty string")
	}
	return uids[0], nil
}
