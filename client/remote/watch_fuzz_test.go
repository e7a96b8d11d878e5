package remote

import (
	"bufio"
	"bytes"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"sagong/kinds"
	"sagong/object"
)

// A server that is not well ends a watch, and not the program.
func FuzzWatch(f *testing.F) {
	f.Add([]byte(`{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","resourceVersion":"7"}}}`+"\n"), false)
	f.Add([]byte(`{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","code":410}}`+"\n"), false)
	f.Add([]byte(`{"type":"BOOKMARK","object":null}`+"\n{}\n"), false)
	f.Add([]byte("\x00\x00\x00\x02\x0a\x00"), true)
	f.Add([]byte("\xff\xff\xff\xff"), true)
	d := object.Of[*corev1.Pod](object.NewScheme(kinds.All()...))
	f.Fuzz(func(t *testing.T, data []byte, protobuf bool) {
		w := &watch{d: d, format: object.JSON}
		if protobuf {
			w.format = object.Protobuf
		}
		r := bufio.NewReader(bytes.NewReader(data))
		for range 10 {
			if _, err := w.next(r); err != nil {
				return
			}
		}
	})
}
