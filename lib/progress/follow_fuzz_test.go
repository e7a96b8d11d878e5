package progress

import (
	"bytes"
	"testing"
)

// Whatever a process writes before it dies, following it ends.
func FuzzFollow(f *testing.F) {
	f.Add([]byte("{\"name\":\"a\",\"took\":1}\n{\"name\":\"b\",\"done\":true}\n"))
	f.Add([]byte("{\"name\":"))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, in []byte) {
		done := false
		err := Follow(bytes.NewReader(in), func(s Step) { done = s.Done })
		if done != (err == nil) {
			t.Errorf("the last step was seen: %v; error: %v", done, err)
		}
	})
}
