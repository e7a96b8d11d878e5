package store

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sagong/store/wal"
)

func newDictionary(text []byte) *dictionary { return &dictionary{base: &wal.Base{Text: text}} }

func FuzzPack(f *testing.F) {
	f.Add([]byte("the quick brown fox jumps over the lazy dog"), []byte("a quick brown fox jumps over a lazy dog"))
	f.Add([]byte{}, bytes.Repeat([]byte("ab"), 300))
	f.Add(bytes.Repeat([]byte{0}, 100), bytes.Repeat([]byte{0}, 400))
	f.Fuzz(func(t *testing.T, dict, value []byte) {
		if len(dict) > mostPacked {
			return
		}
		data := newDictionary(dict).pack(nil, value, len(value)/2)
		if data == nil {
			return
		}
		if got := expand(packedAt(&keep(data)[0]), dict, nil); !bytes.Equal(got, value) {
			t.Fatalf("%x came back as %x", value, got)
		}
		if n, ok := expanded(data, len(dict)); !ok || n != len(value) {
			t.Fatalf("%x has the length %d (%v), not %d", data, n, ok, len(value))
		}
	})
}

// Whatever is taken for a packed form can be expanded, to the length that was said.
func FuzzExpanded(f *testing.F) {
	dict := []byte("the quick brown fox jumps over the lazy dog")
	f.Add(newDictionary(dict).pack(nil, []byte("a quick brown fox jumps over a lazy dog"), 100))
	f.Add([]byte{0, 0, 43, 0})
	f.Add([]byte{0, 1, 43, 0})
	f.Add([]byte{5, 'a'})
	f.Add([]byte{0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if n, ok := expanded(data, len(dict)); ok {
			if got := expand(data, dict, nil); len(got) != n {
				t.Fatalf("%x has %d bytes, not %d", data, len(got), n)
			}
		}
	})
}

// text is the value of a key: like that of others, and of its other versions.
func text(key string, version int) string {
	return fmt.Sprintf("name %s version %d ", key, version) + string(bytes.Repeat([]byte("what all have in common, "), 80))
}

func TestOldVersionsArePackedAndReadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := OpenMemory(Options{PackAbove: 50})
		defer s.Close()
		put := func(version int) (revs []Rev) {
			for i := range 100 {
				key := fmt.Sprintf("/r/things/ns/web-%d", i)
				r := s.Commit(t.Context(), []Op{{Key: key, Expect: AnyRev, Value: []byte(text(key, version))}})[0]
				if r.Err != nil {
					t.Fatal(r.Err)
				}
				revs = append(revs, r.Rev)
			}
			return revs
		}
		begin := s.Rev()
		first := put(1)
		put(2)
		before := int64(100 * len(text("", 1))) // what the first versions take at least
		time.Sleep(10 * time.Second)            // on the bubble's clock
		synctest.Wait()
		if s.c.historyBytes > before/3 {
			t.Errorf("the history keeps %d bytes, before %d", s.c.historyBytes, before)
		}
		packed := 0
		for i, rev := range first {
			key := fmt.Sprintf("/r/things/ns/web-%d", i)
			for version, at := range map[int]Rev{1: rev, 2: 0} {
				r, _, err := s.Get(t.Context(), key, at)
				if err != nil || string(r.Value()) != text(key, version) || r.Size() != len(text(key, version)) {
					t.Fatalf("%s at %d: %v", key, at, err)
				}
				if r.value.plain.Load() == nil {
					packed++
				}
			}
		}
		if packed < 190 {
			t.Errorf("%d of 200 versions are packed", packed)
		}
		w, err := s.Watch(t.Context(), "/r/things/", begin, WatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		seen := 0
		for seen < 200 {
			events, err := w.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				if version := seen/100 + 1; string(e.Record.Value()) != text(e.Record.Key, version) {
					t.Fatalf("event %d: %.40s", seen, e.Record.Value())
				}
				seen++
			}
		}
		// A tombstone has the last value, packed or not.
		r := s.Commit(t.Context(), []Op{{Key: "/r/things/ns/web-7", Expect: AnyRev, Delete: true}})[0]
		if r.Err != nil || string(r.Record.Value()) != text("/r/things/ns/web-7", 2) {
			t.Fatalf("%v %.40s", r.Err, r.Record.Value())
		}
	})
}

func BenchmarkPack(b *testing.B) {
	d := newDictionary([]byte(text("/r/things/ns/web-1", 1)))
	v := []byte(text("/r/things/ns/web-2", 2))
	var buf []byte
	for b.Loop() {
		buf = d.pack(buf, v, len(v)/2)
	}
}

func BenchmarkExpand(b *testing.B) {
	from := []byte(text("/r/things/ns/web-1", 1))
	v := []byte(text("/r/things/ns/web-2", 2))
	data := keep(newDictionary(from).pack(nil, v, len(v)/2))
	for b.Loop() {
		expand(packedAt(&data[0]), from, make([]byte, 0, len(v)))
	}
}
