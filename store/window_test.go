package store

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
)

// Between the moment that a change is in the feeds and the moment that its
// revision is visible, watchers may come and look. They must not see it, and
// must not miss it afterwards.
func TestWatchDuringPublication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLocal(Options{})
		c := &s.c // in place of its goroutine
		watch := func(prefix string, opts WatchOptions) chan Event {
			w, err := s.Watch(t.Context(), prefix, s.Rev(), opts)
			if err != nil {
				t.Fatal(err)
			}
			got := make(chan Event, 1)
			go func() {
				defer w.Close()
				evs, err := w.Next(t.Context())
				if err != nil || len(evs) != 1 {
					t.Errorf("watch of %q: %v, %v", prefix, evs, err)
					return
				}
				got <- evs[0]
			}()
			return got
		}
		prefixes := []string{"", "/r/a/", "/r/a/n/"}
		var watchers []chan Event
		for _, p := range prefixes {
			watchers = append(watchers, watch(p, WatchOptions{}))
		}
		r := c.decide(&Op{Key: "/r/a/n/x", Value: []byte("v")})
		touched := c.feed()
		for _, p := range prefixes {
			watchers = append(watchers, watch(p, WatchOptions{}))
		}
		watchers = append(watchers, watch("/r/a/n/x", WatchOptions{Exact: true})) // its feed begins after the change
		synctest.Wait()
		for i, w := range watchers {
			if len(w) > 0 {
				t.Errorf("watcher %d saw %+v before it was visible", i, <-w)
			}
		}
		s.index.mu.Lock()
		s.index.publishLocked(c.items[0], r.Record)
		s.rev.Store(int64(r.Rev))
		s.index.mu.Unlock()
		for _, topic := range touched {
			topic.wake(50, 0)
		}
		synctest.Wait()
		for i, w := range watchers {
			if len(w) != 1 {
				t.Errorf("watcher %d has missed the event", i)
			}
		}
	})
}

// Readers of the latest state never notice that versions are cut away under
// them.
func TestReadDuringCompaction(t *testing.T) {
	s := OpenMemory(Options{HistoryEvents: 1})
	defer s.Close()
	const keys = 20
	var ops []Op
	for i := range keys {
		ops = append(ops, Op{Key: fmt.Sprintf("/r/a/%02d", i), Expect: AnyRev})
	}
	s.Commit(t.Context(), ops)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for i := range keys {
					if _, _, err := s.Get(t.Context(), fmt.Sprintf("/r/a/%02d", i), 0); err != nil {
						t.Errorf("get: %v", err)
						return
					}
				}
				if l, err := s.List(t.Context(), "/r/a/", ListOptions{}); err != nil || len(l.Records) != keys {
					t.Errorf("list: %d records, %v", len(l.Records), err)
					return
				}
			}
		})
	}
	for range 3000 {
		s.Commit(t.Context(), ops)
	}
	close(stop)
	wg.Wait()

	// The same, with the compaction between the two halves of a read.
	it := s.index.get("/r/a/00")
	at := s.Rev() - keys
	if r := it.at(at); r != nil {
		t.Fatalf("revision %d is still there", at)
	}
	if _, _, err := s.Get(t.Context(), "/r/a/00", at); !errors.Is(err, ErrCompacted) {
		t.Errorf("get at a revision that is gone: %v", err)
	}
}

// The index of tags holds only what is there.
func TestTagIndexForgets(t *testing.T) {
	s := OpenMemory(Options{Tag: func(r *Record) string { return string(r.Value()) }})
	defer s.Close()
	for i := range 10 {
		s.Commit(t.Context(), []Op{{Key: fmt.Sprint("/r/a/", i), Value: []byte("t")}})
	}
	if l, err := s.List(t.Context(), "/r/a/", ListOptions{Tag: "t"}); err != nil || len(l.Records) != 10 {
		t.Fatal(l, err)
	}
	for i := range 10 {
		s.Commit(t.Context(), []Op{{Key: fmt.Sprint("/r/a/", i), Delete: true, Expect: AnyRev}})
	}
	if ti := s.index.tagged["/r/a/"]; len(ti.of) != 0 || len(ti.by) != 0 {
		t.Errorf("%d items and %d tags are left", len(ti.of), len(ti.by))
	}
}
