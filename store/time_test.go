package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestAutoCompaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := OpenMemory(Options{})
		defer s.Close()
		ctx := t.Context()
		put := func(key string) Rev {
			return s.Commit(ctx, []Op{{Key: key, Value: []byte("v"), Expect: AnyRev}})[0].Rev
		}
		put("/r/a/x")
		old := put("/r/a/x")
		s.Commit(ctx, []Op{{Key: "/r/a/x", Delete: true, Expect: AnyRev}})
		time.Sleep(4 * time.Minute)
		if c := s.CompactedRev(); c != emptyRev {
			t.Errorf("compacted to %d after 4 minutes", c)
		}
		young := put("/r/a/y")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if c := s.CompactedRev(); c != old+1 {
			t.Errorf("compacted to %d after 6 minutes, want %d", c, old+1)
		}
		if _, err := s.List(ctx, "", ListOptions{Rev: old}); !errors.Is(err, ErrCompacted) {
			t.Errorf("list at an old revision: %v", err)
		}
		if s.index.get("/r/a/x") != nil {
			t.Error("a deleted key is still in the index")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if c := s.CompactedRev(); c != young {
			t.Errorf("compacted to %d after an hour, want %d", c, young)
		}
		if len(s.topics) != 0 || s.everything.all.n != 0 || s.c.historyBytes != 0 {
			t.Errorf("after an hour there are %d topics, %d events, %d bytes of history", len(s.topics), s.everything.all.n, s.c.historyBytes)
		}
		if d := s.c.sleep(); d >= 0 {
			t.Errorf("an idle store wakes up again in %v", d)
		}
	})
}

func TestHistoryIsBounded(t *testing.T) {
	s := OpenMemory(Options{HistoryBytes: 100_000, HistoryEvents: 150})
	defer s.Close()
	value := func(n int) []byte { return make([]byte, n) }
	for i := range 1000 {
		s.Commit(t.Context(), []Op{{Key: "/r/a/x", Value: value(10), Expect: AnyRev}})
		if n := s.Rev() - s.CompactedRev(); n > 151 {
			t.Fatalf("%d events are kept after %d writes", n, i)
		}
	}
	for range 200 {
		s.Commit(t.Context(), []Op{{Key: "/r/a/x", Value: value(10_000), Expect: AnyRev}})
	}
	if n := s.Rev() - s.CompactedRev(); n > 12 {
		t.Errorf("%d events of 10 kB are kept", n)
	}
	// A pinned revision stays readable.
	rev, release := s.pin()
	for range 50 {
		s.Commit(t.Context(), []Op{{Key: "/r/a/x", Value: value(10_000), Expect: AnyRev}})
	}
	if r, _, err := s.Get(t.Context(), "/r/a/x", rev); err != nil || r.ModRev != rev {
		t.Errorf("get at a pinned revision: %v", err)
	}
	release()
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := OpenMemory(Options{})
		defer s.Close()
		ctx := t.Context()
		w, err := s.Watch(ctx, "/r/a/", 0, WatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var ops []Op
		for i := range 100 {
			ops = append(ops, Op{Key: fmt.Sprint("/r/a/", i), TTL: time.Hour})
		}
		rs := s.Commit(ctx, ops)
		for i, r := range rs {
			if i%2 == 0 { // renewed in the middle of their time
				time.Sleep(time.Second)
				s.Commit(ctx, []Op{{Key: r.Record.Key, Expect: r.Rev, TTL: 2 * time.Hour}})
			}
		}
		for seen := 0; seen < 150; {
			evs, _ := w.Next(ctx)
			seen += len(evs)
		}
		evs, err := w.Next(ctx)
		if err != nil || len(evs) != 50 || evs[0].Type != Delete {
			t.Fatalf("%d events, %v; want 50 deletes at once", len(evs), err)
		}
		if d := time.Since(start); d < time.Hour || d > time.Hour+2*time.Second {
			t.Errorf("expired after %v, want an hour", d)
		}
		time.Sleep(59*time.Minute + 50*time.Second)
		if l, _ := s.List(ctx, "", ListOptions{CountOnly: true}); l.Remaining != 50 {
			t.Errorf("%d keys are left a little before two hours, want 50", l.Remaining)
		}
		time.Sleep(2 * time.Minute)
		if l, _ := s.List(ctx, "", ListOptions{CountOnly: true}); l.Remaining != 0 {
			t.Errorf("%d keys are left after two hours", l.Remaining)
		}
	})
}

// What expires while the server is down is gone soon after it starts; the rest
// has what was left of its time.
func TestExpiryAcrossRestart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		s.Commit(ctx, []Op{{Key: "/r/a/short", TTL: 10 * time.Second}, {Key: "/r/a/long", TTL: time.Hour}, {Key: "/r/a/keep"}})
		s.Close()
		time.Sleep(30 * time.Minute)
		if s, err = Open(Options{Dir: dir}); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		count := func() int64 {
			l, err := s.List(ctx, "", ListOptions{CountOnly: true})
			if err != nil {
				t.Error(err)
			}
			return l.Remaining
		}
		time.Sleep(2 * time.Second)
		if n := count(); n != 2 {
			t.Errorf("%d keys two seconds after the start, want 2", n)
		}
		time.Sleep(29 * time.Minute)
		if n := count(); n != 2 {
			t.Errorf("%d keys before the hour is over, want 2", n)
		}
		time.Sleep(2 * time.Minute)
		if n := count(); n != 1 {
			t.Errorf("%d keys after the hour, want 1", n)
		}
	})
}

// A crowd is woken together and still gets every event in order.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := OpenMemory(Options{Crowd: 10, CrowdDelay: 5 * time.Millisecond})
		defer s.Close()
		ctx := t.Context()
		const watchers, writes = 100, 50
		rounds := make(chan int, watchers)
		for range watchers {
			w, err := s.Watch(ctx, "/r/a/", 0, WatchOptions{})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				defer w.Close()
				n := 0
				for last := emptyRev; last < emptyRev+writes; n++ {
					evs, err := w.Next(ctx)
					if err != nil {
						t.Error(err)
						break
					}
					for _, e := range evs {
						if e.Rev != last+1 {
							t.Errorf("event %d after %d", e.Rev, last)
						}
						last = e.Rev
					}
				}
				rounds <- n
			}()
		}
		synctest.Wait()
		for range writes {
			s.Commit(ctx, []Op{{Key: "/r/a/x", Expect: AnyRev}})
			time.Sleep(time.Millisecond)
		}
		for range watchers {
			if n := <-rounds; n > writes/3 {
				t.Errorf("woken %d times for %d writes a millisecond apart", n, writes)
			}
		}
	})
}

func TestSecondSegment(t *testing.T) {
	for key, want := range map[string]int{
		"/registry/pods/a/b": 15, "/registry/pods/": 15, "/registry/pods": 0, "/registry/": 0, "": 0, "x": 0, "/": 0,
	} {
		if got := secondSegment(key); got != want {
			t.Errorf("secondSegment(%q) = %d, want %d", key, got, want)
		}
	}
}

// Writes share a sync with those that are announced, for which they wait a
// moment, and not longer.
func TestAnnouncedWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &faultyJournal{}
		j.left.Store(100)
		s := openJournal(t, j)
		write := func(key string) {
			if r := s.Commit(t.Context(), []Op{{Key: key, Value: []byte("v"), Expect: AnyRev}})[0]; r.Err != nil {
				t.Error(r.Err)
			}
		}
		took := func(f func()) time.Duration {
			begin := time.Now()
			f()
			return time.Since(begin)
		}
		if d := took(func() { write("/r/a/alone") }); d != 0 || j.appends.Load() != 1 {
			t.Fatalf("took %v, %d appends", d, j.appends.Load())
		}

		s.Announce(2)
		go write("/r/a/1")
		time.Sleep(gatherFor / 2)
		if j.appends.Load() != 1 {
			t.Fatal("a write did not wait for the one that is announced")
		}
		s.Announce(-2)
		if d := took(func() { write("/r/a/2") }); d != 0 || j.appends.Load() != 2 {
			t.Fatalf("took %v, %d appends", d, j.appends.Load())
		}

		s.Announce(1)
		if d := took(func() { write("/r/a/3") }); d != gatherFor {
			t.Fatalf("a write waited %v for one that does not come", d)
		}
	})
}
