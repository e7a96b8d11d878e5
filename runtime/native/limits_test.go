package native

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRaiseLimits(t *testing.T) {
	root := t.TempDir() + "/"
	put := func(name, value string) string {
		f := root + strings.ReplaceAll(name, ".", "/")
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
		return f
	}
	low, high, bad := put("kernel.pid_max", "32768\n"), put("fs.mount-max", "99999999\n"), put("net.core.somaxconn", "many\n")
	got := map[string]Limit{}
	for _, l := range raiseLimits(root) {
		got[l.Name] = l
	}
	delete(got, "CAP_SYS_RESOURCE")
	if l := got["kernel.pid_max"]; len(got) != 2 || l.Had != 32768 || l.Err != nil || got["net.core.somaxconn"].Err == nil {
		t.Errorf("%+v", got)
	}
	for f, want := range map[string]string{low: "4194304", high: "99999999\n", bad: "many\n"} {
		if b, _ := os.ReadFile(f); string(b) != want {
			t.Errorf("%s is %q", f, b)
		}
	}
}
