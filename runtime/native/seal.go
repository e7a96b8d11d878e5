package native

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"sagong/runtime"
)

// sealer keeps arguments and environments out of the data directory: they may
// hold what Secrets do. The key is on the run directory, in memory, and ends with
// the machine's run, as the containers do; a file of each container's own there
// would take a page of memory for each.
type sealer struct{ aead cipher.AEAD }

// secretPart is what of a container is sealed.
type secretPart struct{ Args, Env []string }

// openSealer reads the key, or makes one.
func openSealer(name string) (sealer, error) {
	key, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(key) != 32 { // cut off by a crash before it was used
		key = make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		err = os.WriteFile(name, key, 0o600)
	}
	if err != nil {
		return sealer{}, fmt.Errorf("cannot keep the key of environments: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealer{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return sealer{aead}, err
}

// seal makes the description of a container that goes to disk.
func (s sealer) seal(f containerFile) (containerFile, error) {
	plain, err := json.Marshal(secretPart{f.Container.Args, f.Container.Env})
	f.Container.Args, f.Container.Env = nil, nil
	f.Sealed = s.aead.Seal(nil, nil, plain, []byte(f.Container.ID))
	return f, err
}

// open gives a container what seal took. It fails when the machine was started
// anew since.
func (s sealer) open(f containerFile) (runtime.Container, error) {
	plain, err := s.aead.Open(nil, nil, f.Sealed, []byte(f.Container.ID))
	if err != nil {
		return f.Container, err
	}
	var p secretPart
	err = json.Unmarshal(plain, &p)
	f.Container.Args, f.Container.Env = p.Args, p.Env
	return f.Container, err
}
