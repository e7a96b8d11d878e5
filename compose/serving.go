package compose

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"

	"sagong/config"
	"sagong/reconcile"
)

// ownName is the name by which the cluster's own clients ask for the API: they
// trust the cluster's authority alone.
const ownName = "kubernetes"

// servingCerts chooses the certificate that a client of the API sees.
type servingCerts struct {
	own   func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	given *servingPair   // for all others; nil without one
	named []*servingPair // for some names, the first that fits
	// inside says of an address that a client there may trust the cluster's own
	// authority alone: pods, and processes on nodes.
	inside func(netip.Addr) bool
}

// servingPair is a certificate and its key in files.
type servingPair struct {
	config.NamedCert
	current atomic.Pointer[tls.Certificate]
}

func (p *servingPair) load() error {
	c, err := tls.LoadX509KeyPair(p.Cert, p.Key)
	if err == nil {
		p.current.Store(&c)
	}
	return err
}

// GetCertificate serves tls.Config. Names that were given with a certificate come
// first, then those in it, exact ones before patterns. The cluster's own names are
// its own, whatever else there is.
func (s *servingCerts) GetCertificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(h.ServerName, "."))
	var local, remote netip.Addr
	if h.Conn != nil {
		local, remote = addressOf(h.Conn.LocalAddr()), addressOf(h.Conn.RemoteAddr())
	}
	byAddress := name == ""
	if byAddress && local.IsValid() {
		name = local.String()
	}
	if p := s.find(name); p != nil {
		return p.current.Load(), nil
	}
	switch {
	case s.given == nil, ofTheCluster(name):
		return s.own(h)
	case byAddress && (local.IsLoopback() || remote == local || s.inside(remote) || s.given.current.Load().Leaf.VerifyHostname(name) != nil):
		return s.own(h)
	}
	return s.given.current.Load(), nil
}

// ofTheCluster tells whether a name is one by which pods and agents know the API.
func ofTheCluster(name string) bool {
	return name == "localhost" || name == ownName || name == "kubernetes.default" || strings.HasPrefix(name, "kubernetes.default.svc")
}

func (s *servingCerts) find(name string) *servingPair {
	if name == "" {
		return nil
	}
	pattern := name
	if _, rest, ok := strings.Cut(name, "."); ok {
		pattern = "*." + rest
	}
	for _, want := range []string{name, pattern} {
		for _, explicit := range []bool{true, false} {
			for _, p := range s.named {
				names := p.Names
				if (len(names) > 0) != explicit {
					continue
				}
				if !explicit {
					leaf := p.current.Load().Leaf
					names = leaf.DNSNames
					if cn := leaf.Subject.CommonName; net.ParseIP(cn) == nil {
						names = append([]string{cn}, names...)
					}
				}
				if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, want) }) {
					return p
				}
			}
		}
	}
	return nil
}

func addressOf(a net.Addr) netip.Addr {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// openServing reads the certificates that were given, and follows their files.
func (s *server) openServing() (err error) {
	if s.ciphers, err = s.cfg.Ciphers(); err != nil {
		return err
	}
	s.serving = &servingCerts{own: s.ids.withAuthority}
	pods := netip.MustParsePrefix(s.cfg.ClusterCIDR)
	s.serving.inside = func(a netip.Addr) bool { return pods.Contains(a) || s.hub != nil && onNode(s.hub, a) }
	add := func(flag string, n config.NamedCert) (*servingPair, error) {
		p := &servingPair{NamedCert: n}
		for _, file := range []string{n.Cert, n.Key} {
			known, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("cannot use --%s: %w", flag, err)
			}
			s.follow("", file, known, func(context.Context, []byte) error { return p.load() })
		}
		// After they were read: what changes from here on is read again.
		if err := p.load(); err != nil {
			return nil, fmt.Errorf("cannot use --%s: %w", flag, err)
		}
		return p, nil
	}
	if s.cfg.TLSCert != "" {
		if s.serving.given, err = add("tls-cert-file", config.NamedCert{Cert: s.cfg.TLSCert, Key: s.cfg.TLSKey}); err != nil {
			return err
		}
	}
	for _, v := range s.cfg.SNICerts {
		n, err := config.ParseNamedCert(v)
		if err != nil {
			return fmt.Errorf("cannot use --tls-sni-cert-key: %w", err)
		}
		p, err := add("tls-sni-cert-key", n)
		if err != nil {
			return err
		}
		s.serving.named = append(s.serving.named, p)
	}
	return nil
}

// onNode tells whether an address is a node's.
func onNode(h *reconcile.Hub, a netip.Addr) bool {
	text := a.String()
	for _, n := range reconcile.ViewOf[*corev1.Node](h).All() {
		for _, have := range n.Status.Addresses {
			if have.Address == text {
				return true
			}
		}
	}
	return false
}
