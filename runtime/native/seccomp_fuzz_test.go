package native

import (
	"os"
	"path/filepath"
	"testing"

	"sagong/runtime"
)

// Profiles are files that users write.
func FuzzSeccompProfile(f *testing.F) {
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW"}]}`))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["clone"],"action":"SCMP_ACT_ERRNO","errnoRet":1,"args":[{"index":9,"value":1,"valueTwo":2,"op":"SCMP_CMP_MASKED_EQ"}]}]}`))
	f.Add([]byte(`{"defaultAction":"x","syscalls":[{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "profile.json")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var cache filterCache
		code, _, err := cache.get(runtime.Security{Seccomp: runtime.Seccomp{Type: runtime.SeccompLocalhost, Path: path}})
		if err == nil && (len(code) == 0 || len(code)%8 != 0) {
			t.Errorf("a filter of %d bytes", len(code))
		}
	})
}
