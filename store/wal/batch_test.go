package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
)

// someBatch makes a batch of n changes from revision first on, and what reading
// it back gives.
func someBatch(b *Batch, rnd *rand.Rand, h Header, n int) []Record {
	b.Start(h)
	var want []Record
	for i := range n {
		r := Record{Key: fmt.Sprintf("/r/%d", rnd.IntN(50)), Mod: h.First + int64(i), Create: h.First + int64(i)}
		if rnd.IntN(2) == 0 {
			r.Create = 1 + rnd.Int64N(r.Mod)
		}
		if rnd.IntN(4) == 0 {
			r.Delete = true
			b.Delete(r.Key, r.Create)
		} else {
			r.Value = make([]byte, rnd.IntN(60))
			for j := range r.Value {
				r.Value[j] = byte(rnd.Uint32())
			}
			if rnd.IntN(3) == 0 {
				r.Expires = rnd.Int64N(1 << 40)
			}
			b.Put(r.Key, r.Value, r.Create, r.Expires)
		}
		want = append(want, r)
	}
	return want
}

func decodeAll(body []byte) (h Header, recs []Record, err error) {
	err = DecodeBatch(body, func(got Header) error { h = got; return nil }, func(r Record) error {
		recs = append(recs, r)
		return nil
	})
	return h, recs, err
}

func TestBatchRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	var b Batch
	for n := range 40 {
		h := Header{First: 1 + rnd.Int64N(1e6), Compacted: rnd.Int64N(1e6), Millis: 1e12, Lazy: n%2 == 0, Skip: n%3 == 0}
		want := someBatch(&b, rnd, h, n)
		if b.Len() != n {
			t.Fatalf("a batch of %d changes says %d", n, b.Len())
		}
		data := seal(bytes.Clone(b.body), 77)
		body, ok := openPayload(data, 77)
		if !ok {
			t.Fatal("a sealed payload cannot be opened")
		}
		if _, ok := openPayload(data, 78); ok {
			t.Fatal("a payload opens as that of another entry")
		}
		gotH, got, err := decodeAll(body)
		if err != nil || gotH != h {
			t.Fatalf("header %+v, %v; want %+v", gotH, err, h)
		}
		if len(got) != len(want) || n > 0 && !reflect.DeepEqual(got, want) {
			t.Fatalf("changes:\n got %+v\nwant %+v", got, want)
		}
	}
	b.Start(Header{First: 5})
	b.MarkLazy()
	if h, _, err := decodeAll(b.body[payloadHead:]); err != nil || !h.Lazy {
		t.Errorf("a batch marked lazy reads as %+v, %v", h, err)
	}
}

// No sector of a sealed body is empty, wherever it begins, and it reads back.
func TestMask(t *testing.T) {
	bodies := [][]byte{
		make([]byte, 511), make([]byte, 512), make([]byte, 5000),
		append(bytes.Repeat([]byte{1}, 600), make([]byte, 600)...),
		append(append(bytes.Repeat([]byte{1}, 600), make([]byte, 600)...), bytes.Repeat([]byte{2}, 600)...),
		[]byte("short"), {},
	}
	for i, body := range bodies {
		data := seal(append(make([]byte, payloadHead), body...), 9)
		for at := range int64(sector) {
			if emptySector(data, at) {
				t.Errorf("body %d at offset %d has an empty sector", i, at)
			}
		}
		if got, ok := openPayload(data, 9); !ok || !bytes.Equal(got, body) {
			t.Errorf("body %d does not read back", i)
		}
	}
}

func TestBatchMalformed(t *testing.T) {
	var b Batch
	someBatch(&b, rand.New(rand.NewPCG(3, 3)), Header{First: 9, Millis: 1}, 5)
	good := b.body[payloadHead:]
	for n := range good {
		_, recs, err := decodeAll(good[:n])
		if err == nil && len(recs) >= 5 {
			t.Errorf("cut to %d of %d bytes it still has %d changes", n, len(good), len(recs))
		}
		if err != nil && !errors.Is(err, errBatch) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, _, err := decodeAll(append([]byte{9}, good[1:]...)); !errors.Is(err, errBatch) {
		t.Errorf("unknown version: %v", err)
	}
}

func FuzzDecodeBatch(f *testing.F) {
	var b Batch
	rnd := rand.New(rand.NewPCG(4, 4))
	for n := range 6 {
		someBatch(&b, rnd, Header{First: 3, Compacted: 1, Millis: 5, Lazy: n == 2}, n)
		f.Add(bytes.Clone(b.body[payloadHead:]))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, recs, err := decodeAll(data)
		if err != nil {
			return
		}
		var again Batch
		again.Start(h)
		for _, r := range recs {
			if r.Delete {
				again.Delete(r.Key, r.Create)
			} else {
				again.Put(r.Key, r.Value, r.Create, r.Expires)
			}
		}
		h2, recs2, err := decodeAll(again.body[payloadHead:])
		if err != nil || h2 != h || len(recs) != len(recs2) {
			t.Fatalf("re-encoded: %+v, %d changes, %v; want %+v, %d", h2, len(recs2), err, h, len(recs))
		}
		for i := range recs {
			a, b := recs[i], recs2[i]
			if a.Key != b.Key || !bytes.Equal(a.Value, b.Value) || a.Mod != b.Mod || a.Create != b.Create || a.Delete != b.Delete || !a.Delete && a.Expires != b.Expires {
				t.Fatalf("change %d: %+v became %+v", i, a, b)
			}
		}
	})
}
