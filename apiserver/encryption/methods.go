package encryption

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/nacl/secretbox"
)

var errShort = errors.New("the stored data was shorter than the required size")

// random returns n random bytes with room for more behind.
func random(prefix []byte, n, more int) []byte {
	out := make([]byte, len(prefix)+n, len(prefix)+n+more)
	copy(out, prefix)
	rand.Read(out[len(prefix):]) // never fails: crypto/rand crashes the process instead
	return out
}

// gcm is AES-GCM with random nonces: nonce, then ciphertext and tag.
type gcm struct {
	name []byte
	aead cipher.AEAD
}

func newGCM(prefix string, secret []byte) (provider, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return gcm{[]byte(prefix), aead}, err
}

func (g gcm) prefix() []byte { return g.name }

func (g gcm) seal(aad, value []byte) ([]byte, error) {
	out := random(g.name, g.aead.NonceSize(), len(value)+g.aead.Overhead())
	return g.aead.Seal(out, out[len(g.name):], value, aad), nil
}

func (g gcm) open(aad, sealed []byte) ([]byte, bool, error) {
	n := g.aead.NonceSize()
	if len(sealed) < n {
		return nil, false, errShort
	}
	value, err := g.aead.Open(nil, sealed[:n], sealed[n:], aad)
	return value, false, err
}

// cbc is AES-CBC with PKCS #7 padding: initialisation vector, then ciphertext. It
// proves nothing of who wrote the value; upstream keeps it for what was sealed
// long ago.
type cbc struct {
	name  []byte
	block cipher.Block
}

func newCBC(prefix string, secret []byte) (provider, error) {
	block, err := aes.NewCipher(secret)
	return cbc{[]byte(prefix), block}, err
}

func (c cbc) prefix() []byte { return c.name }

func (c cbc) seal(_, value []byte) ([]byte, error) {
	size := c.block.BlockSize()
	pad := size - len(value)%size
	out := random(c.name, size, len(value)+pad)
	body := append(bytes.Clone(value), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(c.block, out[len(c.name):]).CryptBlocks(body, body)
	return append(out, body...), nil
}

func (c cbc) open(_, sealed []byte) ([]byte, bool, error) {
	size := c.block.BlockSize()
	if len(sealed) < size {
		return nil, false, errShort
	}
	body := bytes.Clone(sealed[size:])
	if len(body) == 0 || len(body)%size != 0 {
		return nil, false, errors.New("the stored data is not a multiple of the block size")
	}
	cipher.NewCBCDecrypter(c.block, sealed[:size]).CryptBlocks(body, body)
	pad := int(body[len(body)-1])
	if pad == 0 || pad > size || !bytes.HasSuffix(body, bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, false, errors.New("invalid padding on input")
	}
	return body[:len(body)-pad], false, nil
}

// box is XSalsa20 and Poly1305 as in NaCl: nonce, then box.
type box struct {
	name []byte
	key  [32]byte
}

func newSecretbox(prefix string, secret []byte) (provider, error) {
	if len(secret) != 32 {
		return nil, fmt.Errorf("expected key size of 32 for secretbox, got %d", len(secret))
	}
	return &box{[]byte(prefix), [32]byte(secret)}, nil
}

func (b *box) prefix() []byte { return b.name }

func (b *box) seal(_, value []byte) ([]byte, error) {
	out := random(b.name, 24, len(value)+secretbox.Overhead)
	return secretbox.Seal(out, value, (*[24]byte)(out[len(b.name):]), &b.key), nil
}

func (b *box) open(_, sealed []byte) ([]byte, bool, error) {
	if len(sealed) < 24 {
		return nil, false, errShort
	}
	value, ok := secretbox.Open(nil, sealed[24:], (*[24]byte)(sealed), &b.key)
	if !ok {
		return nil, false, errors.New("output array was not large enough for encryption")
	}
	return value, false, nil
}

// seed is AES-GCM with a key of its own for each value, derived from 32 random
// bytes in front of it, so that no number of values wears the seed out. KMS v2
// defines it (HKDF_SHA256_XNONCE_AES_GCM_SEED).
type seed []byte

const seedSize, infoSize = 32, 32

func (s seed) derive(info []byte) (gcm, error) {
	key, err := hkdf.Expand(sha256.New, s, string(info), 32)
	if err != nil {
		return gcm{}, err
	}
	p, err := newGCM("", key)
	if err != nil {
		return gcm{}, err
	}
	return p.(gcm), nil
}

// seal appends to prefix.
func (s seed) seal(prefix, aad, value []byte) ([]byte, error) {
	const nonce, tag = 12, 16
	out := random(prefix, infoSize+nonce, len(value)+tag)
	g, err := s.derive(out[len(prefix) : len(prefix)+infoSize])
	if err != nil {
		return nil, err
	}
	return g.aead.Seal(out, out[len(prefix)+infoSize:], value, aad), nil
}

func (s seed) open(aad, sealed []byte) ([]byte, error) {
	if len(sealed) < infoSize {
		return nil, errShort
	}
	g, err := s.derive(sealed[:infoSize])
	if err != nil {
		return nil, err
	}
	value, _, err := g.open(aad, sealed[infoSize:])
	return value, err
}
