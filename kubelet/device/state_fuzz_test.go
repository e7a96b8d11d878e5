package device

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// A damaged file of prepared devices is refused with a word, not with a panic.
func FuzzState(f *testing.F) {
	f.Add([]byte(`[{"UID":"u","Namespace":"n","Name":"c"}]`))
	f.Add([]byte(`[null]`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := New(Config{File: file})
		if err != nil {
			return
		}
		_, _ = m.Devices(&corev1.Pod{}, &corev1.Container{Resources: corev1.ResourceRequirements{Claims: []corev1.ResourceClaim{{Name: "c"}}}})
		if err := m.save(); err != nil {
			t.Error(err)
		}
	})
}
