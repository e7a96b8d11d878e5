package encryption

import (
	"os"
	"path/filepath"
	"testing"
)

// A damaged key file is refused: nothing may be sealed with what it holds.
func FuzzLoadKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"name":"a","secret":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}]}`))
	f.Add([]byte(`[{"name":"a","secret":""}]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := loadKeys(path, false)
		if err != nil {
			return
		}
		sealed, err := k.seal([]byte("key"), []byte("value"))
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := k.open([]byte("key"), sealed); err != nil || string(got) != "value" {
			t.Errorf("%q, %v", got, err)
		}
	})
}
