package resource

import (
	"sync"
	"sync/atomic"
	"testing"

	"sagong/object"
	"sagong/store"
)

func TestFramesAreMadeOnceAndBounded(t *testing.T) {
	e := &Engine{}
	var made atomic.Int32
	ask := func(r *store.Record, rev object.Revision, f object.Format, size int) {
		b, err := Item{e: e, rec: r, rev: rev}.Once(nil, f, func() ([]byte, error) {
			made.Add(1)
			return make([]byte, size), nil
		})
		if err != nil || len(b) != size {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
	r := &store.Record{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { ask(r, 7, object.CBOR, 100) })
	}
	wg.Wait()
	if n := made.Swap(0); n != 1 {
		t.Errorf("made %d times", n)
	}
	ask(r, 8, object.CBOR, 100) // as it left a selector
	ask(r, 7, object.JSON, 100)
	ask(nil, 0, object.CBOR, 100) // not stored
	if n := made.Swap(0); n != 3 {
		t.Errorf("%d made, want each of three", n)
	}
	for range 5000 {
		ask(&store.Record{}, 1, object.CBOR, 4096)
		if e.frames.size > framesLimit || len(e.frames.all) > framesLimit/4096 {
			t.Fatalf("%d bytes in %d", e.frames.size, len(e.frames.all))
		}
	}
	ask(&store.Record{}, 1, object.CBOR, 2*framesLimit)
	if len(e.frames.all) != 0 || e.frames.size != 0 || len(e.frames.queue)-e.frames.head != 0 {
		t.Errorf("%d bytes in %d", e.frames.size, len(e.frames.all))
	}
}
