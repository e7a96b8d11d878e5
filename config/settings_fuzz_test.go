package config

import (
	"os"
	"path/filepath"
	"testing"
)

func FuzzLoad(f *testing.F) {
	f.Add([]byte("name: a\nnodes: 3\n"), "1")
	f.Add([]byte("name: [a]\n"), "x")
	f.Add([]byte("a: &a [*a, *a]"), "")
	f.Fuzz(func(t *testing.T, data []byte, env string) {
		file := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var c Config
		if err := c.Load(file, func(string) (string, bool) { return env, env != "" }, func(string) bool { return false }); err == nil {
			_ = c.Args()
			_ = c.Validate()
		}
	})
}
