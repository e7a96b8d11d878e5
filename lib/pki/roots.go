package pki

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Roots reads the PEM certificates of a caBundle, all else in which is skipped.
// One without any is an error in upstream's words.
func Roots(bundle []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if pool.AppendCertsFromPEM(bundle) {
		return pool, nil
	}
	return nil, fmt.Errorf("unable to load root certificates: %w", unreadable(bundle))
}

// unreadable says why there is no certificate in a bundle.
func unreadable(bundle []byte) error {
	for len(bundle) > 0 {
		var b *pem.Block
		if b, bundle = pem.Decode(bundle); b == nil {
			return errors.New("unable to parse bytes as PEM block")
		}
		if b.Type != "CERTIFICATE" || len(b.Headers) != 0 {
			continue
		}
		if _, err := x509.ParseCertificate(b.Bytes); err != nil {
			return fmt.Errorf("failed to parse certificate: %w", err)
		}
	}
	return errors.New("no valid certificate authority data seen")
}
