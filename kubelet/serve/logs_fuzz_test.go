package serve

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// What a container writes, and what of it somebody wants to see.
func FuzzLog(f *testing.F) {
	f.Add([]byte("2026-01-01T10:00:00Z stdout F one\n2026-01-01T10:00:01Z stderr P two\n2026-01-01T10:00:01Z stderr F three\n"), int64(1), int64(5), true)
	f.Add([]byte("nonsense\n\n \n2026 stdout  \nno end"), int64(-1), int64(-1), false)
	f.Fuzz(func(t *testing.T, data []byte, tail, limit int64, stamps bool) {
		path := filepath.Join(t.TempDir(), "0.log")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		o := LogOptions{Tail: max(tail, -1), LimitBytes: max(limit, -1), Timestamps: stamps, Stdout: true, Stderr: true}
		if err := New(Options{}).copyLog(t.Context(), &flushing{w: &out}, path, o, nil); err != nil {
			t.Fatal(err)
		}
		if o.LimitBytes >= 0 && int64(out.Len()) > o.LimitBytes || out.Len() > 2*len(data) {
			t.Errorf("%d bytes of %d, limit %d", out.Len(), len(data), o.LimitBytes)
		}
	})
}
