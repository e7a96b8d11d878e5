package authn

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/go-jose/go-jose/v4"
)

// TokenKeys are the keys of service-account tokens: one signs, all verify, so
// that tokens outlive a change of the key.
type TokenKeys struct {
	mu     sync.RWMutex
	signer jose.Signer
	public []jose.JSONWebKey // that of signer first
}

// tokenAlgorithms are those that service-account tokens may be signed by.
var tokenAlgorithms = []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512, jose.RS256}

// NewTokenKeys signs with private and verifies with it and others.
func NewTokenKeys(private crypto.Signer, others ...crypto.PublicKey) (*TokenKeys, error) {
	k := &TokenKeys{}
	return k, k.Set(private, others...)
}

// Set changes the keys.
func (k *TokenKeys) Set(private crypto.Signer, others ...crypto.PublicKey) error {
	public := make([]jose.JSONWebKey, 0, 1+len(others))
	for _, p := range append([]crypto.PublicKey{private.Public()}, others...) {
		key, err := publicKey(p)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(public, func(have jose.JSONWebKey) bool { return have.KeyID == key.KeyID }) {
			public = append(public, key)
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: jose.SignatureAlgorithm(public[0].Algorithm), Key: jose.JSONWebKey{Key: private, KeyID: public[0].KeyID},
	}, nil)
	if err != nil {
		return fmt.Errorf("cannot sign with the token key: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.signer, k.public = signer, public
	return nil
}

// publicKey names a key by the hash of its encoding, as upstream does.
func publicKey(p crypto.PublicKey) (jose.JSONWebKey, error) {
	der, err := x509.MarshalPKIXPublicKey(p)
	if err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("cannot read a token key: %w", err)
	}
	sum := sha256.Sum256(der)
	key := jose.JSONWebKey{Key: p, KeyID: base64.RawURLEncoding.EncodeToString(sum[:]), Use: "sig"}
	switch p := p.(type) {
	case *rsa.PublicKey:
		key.Algorithm = string(jose.RS256)
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P256():
			key.Algorithm = string(jose.ES256)
		case elliptic.P384():
			key.Algorithm = string(jose.ES384)
		case elliptic.P521():
			key.Algorithm = string(jose.ES512)
		}
	}
	if key.Algorithm == "" {
		return key, errors.New("cannot use a token key that is neither RSA nor ECDSA on P-256, P-384 or P-521")
	}
	return key, nil
}

func (k *TokenKeys) sign() jose.Signer {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.signer
}

// verifying returns the keys a token of that id may be signed by: one that names
// none is tried with all.
func (k *TokenKeys) verifying(id string) []jose.JSONWebKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if id == "" {
		return k.public
	}
	for i := range k.public {
		if k.public[i].KeyID == id {
			return k.public[i : i+1]
		}
	}
	return nil
}

// Public is the set that is published for others.
func (k *TokenKeys) Public() jose.JSONWebKeySet {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return jose.JSONWebKeySet{Keys: slices.Clone(k.public)}
}
