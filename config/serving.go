package config

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Serving is how the API is served over TLS, under upstream's names.
type Serving struct {
	TLSCert      string   `json:"tlsCertFile" flag:"tls-cert-file" usage:"PEM file of a certificate to serve the API with, its authorities behind it; the cluster's own clients see the cluster's own"`
	TLSKey       string   `json:"tlsPrivateKeyFile" flag:"tls-private-key-file" usage:"PEM file of its key"`
	SNICerts     []string `json:"tlsSNICertKey" flag:"tls-sni-cert-key" whole:"true" usage:"certificate and key for some names: CERT,KEY or CERT,KEY:NAME,*.NAME (default: the names in the certificate)"`
	CipherSuites []string `json:"tlsCipherSuites" flag:"tls-cipher-suites" usage:"cipher suites of TLS 1.2 to serve the API with (default: those of Go)"`
	TLSVersion   string   `json:"tlsMinVersion" flag:"tls-min-version" usage:"least version of TLS to serve the API with: VersionTLS12 or VersionTLS13, or older"`
}

// NamedCert is a certificate, its key, and the names it is for; none are those in
// the certificate.
type NamedCert struct {
	Cert, Key string
	Names     []string
}

// ParseNamedCert reads a value of --tls-sni-cert-key.
func ParseNamedCert(value string) (n NamedCert, err error) {
	files, names, named := strings.Cut(value, ":")
	var ok bool
	if n.Cert, n.Key, ok = strings.Cut(files, ","); !ok || n.Cert == "" || n.Key == "" || strings.Contains(n.Key, ",") {
		return n, fmt.Errorf("%q: expected comma separated certificate and key file paths", value)
	}
	if named {
		n.Names = strings.Split(names, ",")
		for i, name := range n.Names {
			n.Names[i] = strings.TrimSpace(name)
			if n.Names[i] == "" {
				return n, fmt.Errorf("%q: names must not be empty", value)
			}
		}
	}
	return n, nil
}

// String is the value that ParseNamedCert reads.
func (n NamedCert) String() string {
	if len(n.Names) == 0 {
		return n.Cert + "," + n.Key
	}
	return n.Cert + "," + n.Key + ":" + strings.Join(n.Names, ",")
}

var tlsVersions = map[string]uint16{
	"": tls.VersionTLS12, "VersionTLS10": tls.VersionTLS10, "VersionTLS11": tls.VersionTLS11, "VersionTLS12": tls.VersionTLS12, "VersionTLS13": tls.VersionTLS13,
}

// MinVersion is the least version of TLS, as crypto/tls knows it.
func (s *Serving) MinVersion() uint16 { return tlsVersions[s.TLSVersion] }

// Ciphers are the cipher suites by their numbers; nil for those of Go. It fails on
// the first that there is not.
func (s *Serving) Ciphers() (all []uint16, err error) {
	known := map[string]uint16{
		"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	}
	for _, c := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		known[c.Name] = c.ID
	}
	for _, name := range s.CipherSuites {
		id, ok := known[name]
		if !ok {
			return nil, fmt.Errorf("Cipher suite %s not supported or doesn't exist", name) //nolint:staticcheck // upstream's text
		}
		all = append(all, id)
	}
	return all, nil
}

// completeServing makes paths absolute: 'up' starts a server that runs elsewhere.
func (s *Serving) completeServing() {
	absolute := func(p *string) {
		if abs, err := filepath.Abs(*p); *p != "" && err == nil {
			*p = abs
		}
	}
	absolute(&s.TLSCert)
	absolute(&s.TLSKey)
	for i, v := range s.SNICerts {
		n, err := ParseNamedCert(v)
		if err != nil {
			continue // said when it is validated
		}
		absolute(&n.Cert)
		absolute(&n.Key)
		s.SNICerts[i] = n.String()
	}
}

func (s *Serving) validateServing(bad func(flag, format string, args ...any)) {
	if (s.TLSCert == "") != (s.TLSKey == "") {
		bad("tls-cert-file", "missing filename for serving cert: it and --tls-private-key-file go together")
	}
	there := func(flag string, files ...string) {
		for _, f := range files {
			if f == "" {
				continue
			}
			if _, err := os.Stat(f); err != nil {
				bad(flag, "%v", err)
			}
		}
	}
	there("tls-cert-file", s.TLSCert)
	there("tls-private-key-file", s.TLSKey)
	for _, v := range s.SNICerts {
		n, err := ParseNamedCert(v)
		if err != nil {
			bad("tls-sni-cert-key", "%v", err)
			continue
		}
		there("tls-sni-cert-key", n.Cert, n.Key)
	}
	if _, err := s.Ciphers(); err != nil {
		bad("tls-cipher-suites", "%v", err)
	}
	if _, ok := tlsVersions[s.TLSVersion]; !ok {
		bad("tls-min-version", "unknown tls version %q", s.TLSVersion)
	}
}
