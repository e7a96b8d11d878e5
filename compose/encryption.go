package compose

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
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

// RotateKey is the body of a POST to KeysPath, and with Keys its answer.
type RotateKey struct {
	// DropOld deletes the keys of before; backups sealed with them are lost.
	DropOld bool `json:"dropOld,omitempty"`
	// Keys is how many there are afterwards.
	Keys int `json:"keys,omitempty"`
}

// serveEncryption adds rotation and the health of KMS providers to the API.
func (s *server) serveEncryption() {
	s.api.Handle(KeysPath, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "405 method not allowed", http.StatusMethodNotAllowed)
			return
		}
		var ask RotateKey
		if err := json.NewDecoder(io.LimitReader(r.Body, 4096)).Decode(&ask); err != nil {
			http.Error(w, "cannot read the request: "+err.Error(), http.StatusBadRequest)
			return
		}
		if err := s.cipher.Rotate(r.Context(), ask.DropOld, s.store.Rewrite); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		s.log.Info("Secrets are sealed with a new key", "keys", s.cipher.Keys())
		ask.Keys = s.cipher.Keys()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(ask)
	}))
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
