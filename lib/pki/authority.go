// Package pki makes and keeps the certificates of a cluster: one authority on
// disk, and short-lived certificates signed by it that renew by themselves.
// Keys are ECDSA P-256, in PEM files that only root reads.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Lifetimes of what an Authority signs. Leaves renew when a third is left.
const (
	AuthorityLifetime = 10 * 365 * 24 * time.Hour
	LeafLifetime      = 365 * 24 * time.Hour
	// backdate forgives clocks that differ a little between machines.
	backdate = 5 * time.Minute
)

// Authority is a certificate authority with its key in memory.
type Authority struct {
	Certificate *x509.Certificate
	CertPEM     []byte
	key         *ecdsa.PrivateKey
}

// LoadOrCreateAuthority reads dir/name.crt and dir/name.key, or makes both when
// neither exists. A key without its certificate is what a crash of the very first
// start leaves: it gets a certificate. A certificate without its key is an error:
// signing with a new key would lock out every client that trusts the old one.
func LoadOrCreateAuthority(dir, name, commonName string, now time.Time) (*Authority, error) {
	certFile, keyFile := filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	certPEM, certErr := os.ReadFile(certFile)
	key, keyErr := LoadKey(keyFile)
	switch {
	case certErr == nil && keyErr == nil:
		cert, err := ParseCertificate(certPEM)
		if err != nil {
			return nil, fmt.Errorf("cannot use certificate authority %s: %w", certFile, err)
		}
		if !key.PublicKey.Equal(cert.PublicKey) {
			return nil, fmt.Errorf("cannot use certificate authority %s: %s is not its key", certFile, keyFile)
		}
		return &Authority{Certificate: cert, CertPEM: certPEM, key: key}, nil
	case errors.Is(certErr, fs.ErrNotExist) && keyErr == nil:
		return certify(certFile, key, commonName, now)
	case errors.Is(certErr, fs.ErrNotExist) && errors.Is(keyErr, fs.ErrNotExist):
		if key, keyErr = LoadOrCreateKey(keyFile); keyErr != nil {
			return nil, keyErr
		}
		return certify(certFile, key, commonName, now)
	default:
		return nil, fmt.Errorf("cannot load certificate authority: %w (restore the missing file from a backup, or remove both %s and %s to make a new authority)",
			errors.Join(certErr, keyErr), certFile, keyFile)
	}
}

// certify makes and keeps the certificate of an authority's key.
func certify(certFile string, key *ecdsa.PrivateKey, commonName string, now time.Time) (*Authority, error) {
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: commonName},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(AuthorityLifetime),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		DNSNames: []string{commonName},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("cannot sign the authority's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a := &Authority{Certificate: cert, CertPEM: encodeCert(der), key: key}
	return a, writeFile(certFile, a.CertPEM, 0o644)
}

// Pool trusts this authority and nothing else.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.Certificate)
	return p
}

// Hash is "sha256:" and the hex digest of the authority's public key, the form
// a joining node pins.
func (a *Authority) Hash() string { return PublicKeyHash(a.Certificate) }

// PublicKeyHash returns the pin of a certificate's public key.
func PublicKeyHash(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Leaf is what a certificate shall say.
type Leaf struct {
	CommonName    string
	Organizations []string
	DNSNames      []string
	Addresses     []net.IP
	Server        bool
	Client        bool
	// Lifetime shortens LeafLifetime; zero or more than that means LeafLifetime.
	Lifetime time.Duration
	// Subject, when it says anything, is there instead of CommonName and
	// Organizations.
	Subject pkix.Name
	Emails  []string
	URIs    []*url.URL
	// KeyUsage is what the key is for; nil for signatures and encipherment.
	KeyUsage *x509.KeyUsage
}

// Sign makes a certificate for a public key.
func (a *Authority) Sign(l Leaf, public crypto.PublicKey, now time.Time) (certPEM []byte, err error) {
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: l.CommonName, Organization: l.Organizations},
		DNSNames:     l.DNSNames, IPAddresses: l.Addresses,
		NotBefore: now.Add(-backdate), NotAfter: now.Add(LeafLifetime),
		EmailAddresses: l.Emails, URIs: l.URIs,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, BasicConstraintsValid: true,
	}
	if len(l.Subject.Names) > 0 {
		t.Subject = l.Subject
	}
	if l.KeyUsage != nil {
		t.KeyUsage = *l.KeyUsage
	}
	if l.Lifetime > 0 && l.Lifetime < LeafLifetime {
		t.NotAfter = now.Add(l.Lifetime)
	}
	if t.NotAfter.After(a.Certificate.NotAfter) {
		t.NotAfter = a.Certificate.NotAfter
	}
	if l.Server {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if l.Client {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.Certificate, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("cannot sign a certificate for %s: %w", l.CommonName, err)
	}
	return encodeCert(der), nil
}

// Pair is a certificate with its key, ready for TLS and for a kubeconfig.
type Pair struct {
	CertPEM, KeyPEM []byte
	TLS             tls.Certificate
}

// Issue makes a key and a certificate for it.
func (a *Authority) Issue(l Leaf, now time.Time) (*Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make a key: %w", err)
	}
	certPEM, err := a.Sign(l, key.Public(), now)
	if err != nil {
		return nil, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return NewPair(certPEM, keyPEM)
}

// NewPair parses a certificate and its key.
func NewPair(certPEM, keyPEM []byte) (*Pair, error) {
	c, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("cannot use certificate and key: %w", err)
	}
	return &Pair{CertPEM: certPEM, KeyPEM: keyPEM, TLS: c}, nil
}

// Due tells whether a certificate has a third of its life left, or less.
func Due(c *x509.Certificate, now time.Time) bool {
	return now.After(c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / 3))
}

// LoadKey reads a PEM key.
func LoadKey(file string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("cannot read key %s: it holds no PEM block", file)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("cannot read key %s: %w", file, err)
	}
	ec, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("cannot use key %s: it is a %T, not an ECDSA key", file, k)
	}
	return ec, nil
}

// LoadOrCreateKey reads a PEM key, or makes one when there is none.
func LoadOrCreateKey(file string) (*ecdsa.PrivateKey, error) {
	k, err := LoadKey(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("cannot make a key: %w", err)
	}
	return k, SaveKey(file, k)
}

// SaveKey writes a key so that only its owner can read it.
func SaveKey(file string, k *ecdsa.PrivateKey) error {
	data, err := encodeKey(k)
	if err != nil {
		return err
	}
	return writeFile(file, data, 0o600)
}

// ParseCertificate reads the first certificate of a PEM text.
func ParseCertificate(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("it holds no PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(k *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("cannot encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func serialNumber() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("cannot draw a serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}

// writeFile replaces a file at once, or not at all.
func writeFile(file string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("cannot write %s: %w", file, err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".tmp-*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", file, err)
	}
	defer os.Remove(tmp.Name())
	if _, err = tmp.Write(data); err == nil {
		if err = tmp.Chmod(mode); err == nil {
			err = tmp.Sync()
		}
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", file, err)
	}
	return nil
}
