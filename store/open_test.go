package store

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sagong/store/wal"
)

// What a store of many keys gives back after it was opened again, from a snapshot
// and the log after it, is what was put; it is packed soon, and watchers go on where
// they were.
func TestOpenMany(t *testing.T) {
	t.Run("packed", func(t *testing.T) { openMany(t, 50) })
	t.Run("plain", func(t *testing.T) { openMany(t, 5000) })
}

func openMany(t *testing.T, packAbove int) {
	opts := Options{Dir: t.TempDir(), PackAbove: packAbove}
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
	if packAbove < len(want) {
		packed(t, list.Records, 10) // dictionaries are not
	}
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
	}
	w, err := s.Watch(t.Context(), "/r/things/", from, WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	prev := map[string]int{} // versions
	for len(ops) > 0 {
		events, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			op := ops[0]
			ops = ops[1:]
			value := string(op.Value)
			if op.Delete {
				value = text(op.Key, 1)
			}
			if e.Record.Key != op.Key || (e.Type == Delete) != op.Delete || string(e.Record.Value()) != value {
				t.Fatalf("revision %d: %v of %s, want %s", e.Rev, e.Type, e.Record.Key, op.Key)
			}
			if e.Prev != nil && string(e.Prev.Value()) != text(op.Key, max(1, prev[op.Key])) {
				t.Fatalf("revision %d: %s was %.60q", e.Rev, op.Key, e.Prev.Value())
			}
			prev[op.Key] = 2
		}
	}
}

// packed waits until no more than so many values of records are plain, and returns
// what they are in terms of.
func packed(t *testing.T, records []*Record, plain int) map[*wal.Base]bool {
	t.Helper()
	for {
		bases, n := map[*wal.Base]bool{}, 0
		for _, r := range records {
			if _, b := r.value.form(); b != nil {
				bases[b] = true
			} else {
				n++
			}
		}
		if n <= plain {
			return bases
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%d of %d values are not packed", n, len(records))
		case <-time.After(time.Millisecond):
		}
	}
}

// What is packed goes into a snapshot and a backup as it is, and comes back so;
// what is written after the store was opened is packed in the same terms.
func TestSnapshotOfPacked(t *testing.T) {
	const n, large = 200, 2000 // the length of a value, about
	dir, copied := t.TempDir(), t.TempDir()
	opts := Options{Dir: dir, PackAbove: 50}
	fill := func(s *Local, from, to int) {
		t.Helper()
		var ops []Op
		for i := from; i < to; i++ {
			key := fmt.Sprintf("/r/things/ns/web-%04d", i)
			ops = append(ops, Op{Key: key, Expect: AnyRev, Value: []byte(text(key, 1))})
		}
		for _, r := range s.Commit(t.Context(), ops) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
	reopen := func(s *Local, opts Options) *Local {
		t.Helper()
		if s != nil {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	check := func(s *Local, want int) {
		t.Helper()
		list, err := s.List(t.Context(), "/r/things/", ListOptions{})
		if err != nil || len(list.Records) != want {
			t.Fatalf("%d records, %v", len(list.Records), err)
		}
		bases := packed(t, list.Records, 3)
		if len(bases) > 3 {
			t.Errorf("%d values are packed in terms of %d", want, len(bases))
		}
		for _, r := range list.Records {
			if string(r.Value()) != text(r.Key, 1) || r.Size() != len(text(r.Key, 1)) {
				t.Fatalf("%s is %.60q", r.Key, r.Value())
			}
		}
	}
	s := reopen(nil, opts)
	fill(s, 0, n)
	check(s, n)
	if err := s.Rewrite(t.Context()); err != nil {
		t.Fatal(err)
	}
	var backup bytes.Buffer
	if _, err := s.Snapshot(t.Context(), &backup); err != nil || backup.Len() > n*large/4 {
		t.Fatalf("a backup of %d bytes: %v", backup.Len(), err)
	}
	s = reopen(s, opts)
	check(s, n)
	fill(s, n, 2*n)
	s = reopen(s, opts)
	check(s, 2*n)
	s.Close()
	if _, err := Restore(copied, &backup, 1000); err != nil {
		t.Fatal(err)
	}
	s = reopen(nil, Options{Dir: copied, PackAbove: 50})
	check(s, n)
	s.Close()

	// Whoever starts to encrypt gets the values in clear sealed.
	opts.Cipher = hiding{}
	s = reopen(nil, opts)
	if !s.Stale() {
		t.Error("packed values in clear are not seen as stale")
	}
	check(s, 2*n)
	if err := s.Rewrite(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = reopen(s, opts)
	defer s.Close()
	if s.Stale() {
		t.Error("values are sealed and seen as stale")
	}
	check(s, 2*n)
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("what all have in common")) {
			t.Errorf("%s has a value in clear", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// hiding is a Cipher that covers everything.
type hiding struct{}

func (hiding) Covers(string) bool { return true }

func (hiding) Seal(_ string, value []byte) ([]byte, error) {
	sealed := append([]byte{'#'}, value...)
	for i := range sealed[1:] {
		sealed[1+i] ^= 0x55
	}
	return sealed, nil
}

func (h hiding) Open(key string, stored []byte) ([]byte, bool, error) {
	if len(stored) == 0 || stored[0] != '#' {
		return stored, true, nil
	}
	value, err := h.Seal(key, stored[1:])
	return value[1:], false, err
}
