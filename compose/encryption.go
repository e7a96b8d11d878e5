package compose

import (
	"context"
	"path/filepath"

	"sagong/apiserver"
	"sagong/apiserver/encryption"
	"sagong/apiserver/resource"
	"sagong/config"
	"sagong/store"
)

// EncryptionKeys is the file with the keys that seal Secrets on disk. A backup
// of the store is worth nothing without the file of its time.
func EncryptionKeys(c config.Config) string { return filepath.Join(PKIDir(c), "encryption-keys.json") }

// openStore opens the store with what seals its Secrets.
func (s *server) openStore() (err error) {
	if s.cipher, err = encryption.New(context.Background(), s.cfg.EncryptionProviderConfig, EncryptionKeys(s.cfg)); err != nil {
		return err
	}
	s.store, err = store.Open(store.Options{Dir: storeDir(s.cfg), Log: s.log.With("room", "store"), Tag: resource.Tag, Cipher: s.cipher})
	return err
}

// KeysPath is where administrators rotate the key that seals Secrets.
const KeysPath = "/sagong/v1/encryption-keys"

// serveEncryption adds rotation and the health of KMS providers to the API.
func (s *server) serveEncryption() {
	s.serveRotation(KeysPath, "Secrets are sealed with a new key", func(ctx context.Context, dropOld bool) (int, error) {
		err := s.cipher.Rotate(ctx, dropOld, s.store.Rewrite)
		return s.cipher.Keys(), err
	})
	s.api.AddCheck(apiserver.Check{Name: "kms-providers", For: apiserver.AllHealth, Check: func(context.Context) error { return s.cipher.Healthy() }})
}

// sealStale brings what is on disk under the key that seals now: what an older
// version stored in clear, or what a changed configuration seals otherwise.
func (s *server) sealStale(ctx context.Context) error {
	if !s.store.Stale() {
		return nil
	}
	if err := s.store.Rewrite(ctx); err != nil {
		if ctx.Err() == nil {
			s.log.Error("cannot seal what is stored as it should be; the next start tries again", "err", err)
		}
		return nil
	}
	s.log.Info("all that is stored has been sealed as configured")
	return nil
}
