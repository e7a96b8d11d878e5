package object

import (
	"bytes"
	"testing"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

func TestCovers(t *testing.T) {
	const fields = `{"f:metadata":{"f:labels":{".":{},"f:a":{},"f:we\"ird":{}}},"f:status":{"f:conditions":{"k:{\"type\":\"Ready\"}":{".":{},"f:status":{}}},"f:phase":{}}}`
	for _, tt := range []struct {
		paths string
		want  bool
	}{
		{`{"f:status":{"f:phase":{}}}`, true},
		{`{"f:status":{"f:phase":{},"f:conditions":{"k:{\"type\":\"Ready\"}":{"f:status":{}}}}}`, true},
		{`{"f:metadata":{"f:labels":{".":{},"f:a":{}}}}`, true},
		{`{"f:metadata":{"f:labels":{"f:b":{}}}}`, false},
		{`{"f:status":{"f:conditions":{}}}`, false}, // its children are there, not itself
		{`{"f:status":{}}`, false},
		{`{"f:status":{"f:phase":{"f:deeper":{}}}}`, false},
		{`{"f:status":{"f:conditions":{"k:{\"type\":\"Gone\"}":{"f:status":{}}}}}`, false},
		{`{}`, true},
	} {
		s := &fieldpath.Set{}
		if err := s.FromJSON(bytes.NewReader([]byte(tt.paths))); err != nil {
			t.Fatal(err)
		}
		if got := covers([]byte(fields), s); got != tt.want {
			t.Errorf("%s: %t", tt.paths, got)
		}
	}
}

// FuzzCovers holds a yes to what the library decodes.
func FuzzCovers(f *testing.F) {
	f.Add(`{"f:a":{".":{},"k:{\"x\":1}":{}}}`, `{"f:a":{"k:{\"x\":1}":{}}}`)
	f.Add(`{"f:a\\":{"f:b":{}}}`, `{"f:b":{}}`)
	f.Add(`{"f:a":{"v:\"q\"":{},"i:3":{}}}`, `{"f:a":{"i:3":{}}}`)
	f.Fuzz(func(t *testing.T, fields, paths string) {
		whole, part := &fieldpath.Set{}, &fieldpath.Set{}
		if part.FromJSON(bytes.NewReader([]byte(paths))) != nil {
			return
		}
		yes := covers([]byte(fields), part)
		if whole.FromJSON(bytes.NewReader([]byte(fields))) != nil {
			return // never stored
		}
		if yes && !part.Difference(whole).Empty() {
			t.Fatalf("%s does not hold %s", fields, paths)
		}
	})
}
