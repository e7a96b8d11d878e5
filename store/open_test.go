package store

import (
	"fmt"
	"testing"
	"time"
)

// What a store of many keys gives back after it was opened again, from a snapshot
// and the log after it, is what was put; it is packed at once, and watchers go on
// where they were.
func TestOpenMany(t *testing.T) {
	opts := Options{Dir: t.TempDir(), PackAbove: 50}
	s, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	key := func(i int) string { return fmt.Sprintf("/r/things/ns/web-%04d", i) }
	commit := func(ops []Op) (last Rev) {
		t.Helper()
		for i, r := range s.Commit(t.Context(), ops) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			last = r.Rev
			if ops[i].Delete {
				delete(want, ops[i].Key)
			} else {
				want[ops[i].Key] = string(ops[i].Value)
			}
		}
		return last
	}
	put := func(i, version int, ttl time.Duration) Op {
		return Op{Key: key(i), Expect: AnyRev, Value: []byte(text(key(i), version)), TTL: ttl}
	}
	var ops []Op
	for i := range 1000 { // several blocks
		ops = append(ops, put(i, 1, time.Duration(i%2)*time.Hour))
	}
	from := commit(ops)
	if err := s.Rewrite(t.Context()); err != nil { // into a snapshot
		t.Fatal(err)
	}
	ops = nil
	for i := range 300 {
		switch i % 3 {
		case 0:
			ops = append(ops, put(i, 2, 0), put(i, 3, 0))
		case 1:
			ops = append(ops, Op{Key: key(i), Expect: AnyRev, Delete: true})
		default:
			ops = append(ops, put(1000+i, 1, 0))
		}
	}
	last := commit(ops)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(opts); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := s.List(t.Context(), "/r/things/", ListOptions{})
	if err != nil || list.Rev != last || len(list.Records) != len(want) {
		t.Fatalf("%d records at %d, %v; want %d at %d", len(list.Records), list.Rev, err, len(want), last)
	}
	plain := 0
	for i, r := range list.Records {
		if string(r.Value()) != want[r.Key] {
			t.Fatalf("%s is %.60q", r.Key, r.Value())
		}
		if i > 0 && r.Key <= list.Records[i-1].Key {
			t.Fatalf("%s comes after %s", r.Key, list.Records[i-1].Key)
		}
		if got, _, err := s.Get(t.Context(), r.Key, 0); err != nil || got != r {
			t.Fatalf("%s: got %v, %v", r.Key, got, err)
		}
		if r.value.plain.Load() != nil {
			plain++
		}
	}
	if plain > 10 { // dictionaries
		t.Errorf("%d of %d values are not packed", plain, len(want))
	}
	w, err := s.Watch(t.Context(), "/r/things/", from, WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for len(ops) > 0 {
		events, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			op := ops[0]
			ops = ops[1:]
			if e.Record.Key != op.Key || (e.Type == Delete) != op.Delete || !op.Delete && string(e.Record.Value()) != string(op.Value) {
				t.Fatalf("revision %d: %v of %s, want %s", e.Rev, e.Type, e.Record.Key, op.Key)
			}
		}
	}
}
