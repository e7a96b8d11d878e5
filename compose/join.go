package compose

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"sagong/config"
	"sagong/lib/pki"
)

// membership is what makes a machine a node of a cluster: the cluster's
// authority, and a certificate in the node's name. It is kept on disk, so that
// the join token is needed once.
type membership struct {
	server   string
	caPEM    []byte
	nodeName string
	dir      string
}

// joinCluster finds the membership on disk, or gets one with the join token.
func joinCluster(ctx context.Context, c config.Config) (*membership, error) {
	m := &membership{server: c.Server, nodeName: c.NodeName, dir: PKIDir(c)}
	u, err := url.Parse(c.Server)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("cannot join: --server %q must be https://HOST:PORT; 'sagong token create' on the server prints it", c.Server)
	}
	if m.caPEM, err = os.ReadFile(filepath.Join(m.dir, "ca.crt")); errors.Is(err, fs.ErrNotExist) {
		if m.caPEM, err = fetchAuthority(ctx, u, c.CAHash); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(m.dir, 0o700); err != nil {
			return nil, fmt.Errorf("cannot keep the cluster's authority: %w", err)
		}
		if err := writeFile(filepath.Join(m.dir, "ca.crt"), m.caPEM); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, fmt.Errorf("cannot read the cluster's authority: %w", err)
	}
	if !m.usable() {
		if c.Token == "" {
			return nil, errors.New("cannot join: --token is missing; 'sagong token create' on the server prints it")
		}
		bootstrap := &rest.Config{Host: m.server, BearerToken: c.Token, TLSClientConfig: rest.TLSClientConfig{CAData: m.caPEM, ServerName: ownName}}
		leaf := m.leaf()
		if err := m.request(ctx, bootstrap, "client", certificatesv1.KubeAPIServerClientKubeletSignerName, leaf, certificatesv1.UsageClientAuth); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// usable tells whether the node has a client certificate that still holds, with
// its key. One that ran out while the machine was off is replaced with a token.
func (m *membership) usable() bool {
	pair, err := tls.LoadX509KeyPair(m.file("client", "crt"), m.file("client", "key"))
	return err == nil && time.Now().Before(pair.Leaf.NotAfter)
}

func (m *membership) leaf() pki.Leaf {
	return pki.Leaf{CommonName: "system:node:" + m.nodeName, Organizations: []string{"system:nodes"}}
}

func (m *membership) file(name, ext string) string {
	return filepath.Join(m.dir, "kubelet-"+name+"."+ext)
}

// restConfig speaks to the API as the node.
func (m *membership) restConfig() *rest.Config {
	return &rest.Config{Host: m.server, UserAgent: "kubelet", TLSClientConfig: rest.TLSClientConfig{
		CAData: m.caPEM, CertFile: m.file("client", "crt"), KeyFile: m.file("client", "key"), ServerName: ownName,
	}}
}

// renew asks for a new client certificate when the present one is due, and for
// a serving certificate when there is none or it is due.
func (m *membership) renew(ctx context.Context, addresses []net.IP) error {
	if m.due("client") {
		if err := m.request(ctx, m.restConfig(), "client", certificatesv1.KubeAPIServerClientKubeletSignerName, m.leaf(), certificatesv1.UsageClientAuth); err != nil {
			return err
		}
	}
	if m.due("serving") {
		leaf := m.leaf()
		leaf.DNSNames, leaf.Addresses = []string{m.nodeName}, addresses
		return m.request(ctx, m.restConfig(), "serving", certificatesv1.KubeletServingSignerName, leaf, certificatesv1.UsageServerAuth)
	}
	return nil
}

func (m *membership) due(name string) bool {
	data, err := os.ReadFile(m.file(name, "crt"))
	if err != nil {
		return true
	}
	cert, err := pki.ParseCertificate(data)
	return err != nil || pki.Due(cert, time.Now())
}

// serving returns the node's serving certificate as it is on disk now.
func (m *membership) serving(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(m.file("serving", "crt"), m.file("serving", "key"))
	if err != nil {
		return nil, fmt.Errorf("cannot load the node's certificate: %w", err)
	}
	return &cert, nil
}

// request has a certificate signed through the API and keeps it.
func (m *membership) request(ctx context.Context, as *rest.Config, name, signer string, leaf pki.Leaf, usage certificatesv1.KeyUsage) error {
	fail := func(err error) error {
		return fmt.Errorf("cannot get the node's %s certificate: %w", name, err)
	}
	key, err := pki.LoadOrCreateKey(m.file(name, "key"))
	if err != nil {
		return fail(err)
	}
	csr, err := signingRequest(key, leaf)
	if err != nil {
		return fail(err)
	}
	api, err := kubernetes.NewForConfig(as)
	if err != nil {
		return fail(err)
	}
	requests := api.CertificatesV1().CertificateSigningRequests()
	made, err := requests.Create(ctx, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "node-csr-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: csr, SignerName: signer, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, usage},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fail(err)
	}
	w, err := requests.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + made.Name, ResourceVersion: made.ResourceVersion})
	if err != nil {
		return fail(err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return fail(ctx.Err())
		case e, open := <-w.ResultChan():
			if !open {
				return fail(errors.New("the server ended the connection; try again"))
			}
			r, ok := e.Object.(*certificatesv1.CertificateSigningRequest)
			if !ok {
				continue
			}
			for _, c := range r.Status.Conditions {
				if c.Type == certificatesv1.CertificateDenied || c.Type == certificatesv1.CertificateFailed {
					return fail(fmt.Errorf("request %s was refused: %s", r.Name, c.Message))
				}
			}
			if len(r.Status.Certificate) > 0 {
				return writeFile(m.file(name, "crt"), r.Status.Certificate)
			}
		}
	}
}

func signingRequest(key *ecdsa.PrivateKey, leaf pki.Leaf) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: leaf.CommonName, Organization: leaf.Organizations},
		DNSNames: leaf.DNSNames, IPAddresses: leaf.Addresses,
	}, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// fetchAuthority reads the authority that the server shows behind its own
// certificate, and trusts it when its key has the pinned hash.
func fetchAuthority(ctx context.Context, server *url.URL, pin string) ([]byte, error) {
	if !strings.HasPrefix(pin, "sha256:") {
		return nil, errors.New("cannot join: --ca-hash is missing; 'sagong token create' on the server prints it")
	}
	host := server.Host
	if server.Port() == "" {
		host = net.JoinHostPort(server.Hostname(), "443")
	}
	var authority *x509.Certificate
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: ownName,
		// Verified below, against the pin.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			for _, cert := range s.PeerCertificates {
				if cert.IsCA && pki.PublicKeyHash(cert) == pin {
					authority = cert
				}
			}
			if authority == nil {
				return errors.New("the server's authority is not the one that --ca-hash names")
			}
			roots := x509.NewCertPool()
			roots.AddCert(authority)
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: ownName})
			return err
		},
	}}
	conn, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, fmt.Errorf("cannot join the cluster at %s: %w", server, err)
	}
	conn.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw}), nil
}
