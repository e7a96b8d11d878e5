package encryption

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"sagong/lib/disk"
)

// KeyFile holds the keys by which Secrets are sealed when no configuration says
// otherwise. The first seals, all open. The file is readable by its owner alone
// and does not leave the machine with snapshots and backups of the store.
type KeyFile struct {
	path     string
	rotating sync.Mutex

	mu   sync.RWMutex
	keys []fileKey
}

type fileKey struct {
	Name   string `json:"name"`
	Secret []byte `json:"secret"`
}

var keyFilePrefix = []byte(sealedPrefix + "sagong:v1:")

// loadKeys reads a key file; when there is none it makes one if create is set
// and returns nil otherwise.
func loadKeys(path string, create bool) (*KeyFile, error) {
	f := &KeyFile{path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if !create {
			return nil, nil
		}
		if err := f.create(); err != nil {
			return nil, fmt.Errorf("cannot make the encryption keys: %w", err)
		}
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the encryption keys: %w", err)
	}
	var content struct {
		Keys []fileKey `json:"keys"`
	}
	if err := json.Unmarshal(data, &content); err != nil {
		return nil, fmt.Errorf("cannot read the encryption keys in %s: %w", path, err)
	}
	for _, k := range content.Keys {
		if len(k.Name) != keyNameSize || len(k.Secret) != seedSize {
			return nil, fmt.Errorf("cannot read the encryption keys in %s: key %q is damaged; restore the file from where it was kept", path, k.Name)
		}
	}
	if len(content.Keys) == 0 {
		return nil, fmt.Errorf("cannot read the encryption keys in %s: it has none; restore the file from where it was kept", path)
	}
	f.keys = content.Keys
	return f, nil
}

// keyNameSize is the length of a key's name in hexadecimal.
const keyNameSize = 16

// create makes a file with one key. Of several processes that do so at once one
// wins, and all use its key.
func (f *KeyFile) create() error {
	if err := (disk.OS{}).MkdirAll(filepath.Dir(f.path)); err != nil {
		return err
	}
	draft := &KeyFile{path: fmt.Sprintf("%s.%d", f.path, os.Getpid())}
	defer os.Remove(draft.path)
	if err := draft.add(); err != nil {
		return err
	}
	if err := os.Link(draft.path, f.path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return disk.OS{}.SyncDir(filepath.Dir(f.path))
}

// add puts a new key in front, on disk before it is used.
func (f *KeyFile) add() error {
	name, secret := make([]byte, keyNameSize/2), make([]byte, seedSize)
	rand.Read(name)
	rand.Read(secret)
	f.mu.RLock()
	keys := append([]fileKey{{hex.EncodeToString(name), secret}}, f.keys...)
	f.mu.RUnlock()
	return f.write(keys)
}

// keepFirst deletes all keys but the first.
func (f *KeyFile) keepFirst() error {
	f.mu.RLock()
	keys := f.keys[:1:1]
	f.mu.RUnlock()
	return f.write(keys)
}

func (f *KeyFile) count() int {
	if f == nil {
		return 0
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	return len(f.keys)
}

func (f *KeyFile) write(keys []fileKey) error {
	data, err := json.MarshalIndent(map[string]any{"keys": keys}, "", "  ")
	if err != nil {
		return err
	}
	if err := disk.WriteFile(disk.OS{}, f.path, func(w io.Writer) error {
		_, err := w.Write(append(data, '\n'))
		return err
	}); err != nil {
		return fmt.Errorf("cannot keep the encryption keys: %w", err)
	}
	f.mu.Lock()
	f.keys = keys
	f.mu.Unlock()
	return nil
}

func (f *KeyFile) prefix() []byte { return keyFilePrefix }

func (f *KeyFile) seal(aad, value []byte) ([]byte, error) {
	f.mu.RLock()
	k := f.keys[0]
	f.mu.RUnlock()
	prefix := append(append(bytes.Clone(keyFilePrefix), k.Name...), ':')
	return seed(k.Secret).seal(prefix, aad, value)
}

func (f *KeyFile) open(aad, sealed []byte) ([]byte, bool, error) {
	if len(sealed) <= keyNameSize || sealed[keyNameSize] != ':' {
		return nil, false, errShort
	}
	name := string(sealed[:keyNameSize])
	f.mu.RLock()
	defer f.mu.RUnlock()
	for i, k := range f.keys {
		if k.Name == name {
			value, err := seed(k.Secret).open(aad, sealed[keyNameSize+1:])
			return value, i > 0, err
		}
	}
	return nil, false, fmt.Errorf("key %s is not in %s: restore the file of that time", name, f.path)
}
