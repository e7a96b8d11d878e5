package process

import (
	"os"
	"path/filepath"
	"testing"
)

func FuzzLoad(f *testing.F) {
	f.Add([]byte("1 2\n"))
	f.Add([]byte("-1 99999999999999999999"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "pid")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if id, ok, err := Load(file); err == nil && ok && id.PID <= 0 {
			t.Errorf("process %d is alive", id.PID)
		}
	})
}
