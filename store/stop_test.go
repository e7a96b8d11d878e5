package store

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sagong/store/wal"
)

// faultyJournal fails from its nth append on.
type faultyJournal struct {
	left    atomic.Int32
	appends atomic.Int32
	hold    chan struct{} // an append waits for it if it is not nil
	entered chan struct{}
}

func (j *faultyJournal) Append(*wal.Batch) error {
	j.appends.Add(1)
	if j.hold != nil {
		j.entered <- struct{}{}
		<-j.hold
	}
	if j.left.Add(-1) < 0 {
		return io.ErrShortWrite
	}
	return nil
}
func (j *faultyJournal) Cut(b *wal.Batch) error                         { return j.Append(b) }
func (j *faultyJournal) SnapshotDue() bool                              { return false }
func (j *faultyJournal) Snapshot(wal.State, iter.Seq[wal.Record]) error { return nil }
func (j *faultyJournal) Mark() uint64                                   { return 0 }
func (j *faultyJournal) Close() error                                   { return nil }

func openJournal(t *testing.T, j journal) *Local {
	s := newLocal(Options{Dir: "/data"})
	s.disk = j
	s.start()
	t.Cleanup(func() { s.Close() })
	return s
}

// A write that fails stops all writes for good, is seen by nobody, and leaves
// reads alone.
func TestWriteErrors(t *testing.T) {
	j := &faultyJournal{}
	j.left.Store(2)
	s := openJournal(t, j)
	ctx := t.Context()
	op := func(key string) Op { return Op{Key: key, Value: []byte("v"), Expect: AnyRev} }
	for _, key := range []string{"/r/a/1", "/r/a/2"} {
		if r := s.Commit(ctx, []Op{op(key)})[0]; r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	w, err := s.Watch(ctx, "/r/a/", 0, WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	bad := s.Commit(ctx, []Op{op("/r/a/3"), {Key: "/r/a/1", Value: []byte("v")}})
	for _, r := range bad {
		if !errors.Is(r.Err, ErrStopped) || !errors.Is(r.Err, io.ErrShortWrite) || !strings.Contains(r.Err.Error(), "/data") || r.Record != nil {
			t.Errorf("failed write: %+v", r)
		}
	}
	appends := j.appends.Load()
	j.left.Store(100) // the disk is well again: too late
	for range 3 {
		if r := s.Commit(ctx, []Op{op("/r/a/4")})[0]; !errors.Is(r.Err, ErrStopped) {
			t.Errorf("write after a failure: %v", r.Err)
		}
	}
	if j.appends.Load() != appends {
		t.Error("a failed write was tried again")
	}
	l, err := s.List(ctx, "", ListOptions{})
	if err != nil || len(l.Records) != 2 || l.Rev != 3 {
		t.Errorf("list after a failure: %d records at %d, %v", len(l.Records), l.Rev, err)
	}
	if _, _, err := s.Get(ctx, "/r/a/3", 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("get of what was not written: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if evs, err := w.Next(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("watcher saw %v, %v", evs, err)
	}
	if err := s.Compact(ctx, 3); err != nil {
		t.Errorf("compact after a failure: %v", err)
	}
}

// Nothing is visible before it is durable, to nobody, and conditions see what is
// under way.
func TestPublishAfterSync(t *testing.T) {
	j := &faultyJournal{hold: make(chan struct{}), entered: make(chan struct{})}
	j.left.Store(100)
	s := openJournal(t, j)
	ctx := t.Context()
	w, err := s.Watch(ctx, "/r/a/", 0, WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan Result)
	go func() { first <- s.Commit(ctx, []Op{{Key: "/r/a/x", Value: []byte("1")}})[0] }()
	<-j.entered
	if _, rev, err := s.Get(ctx, "/r/a/x", 0); !errors.Is(err, ErrNotFound) || rev != emptyRev {
		t.Errorf("get before the sync: revision %d, %v", rev, err)
	}
	if l, err := s.List(ctx, "", ListOptions{}); err != nil || len(l.Records) != 0 || l.Rev != emptyRev {
		t.Errorf("list before the sync: %+v, %v", l, err)
	}
	if w.Rev() != emptyRev {
		t.Errorf("progress %d before the sync", w.Rev())
	}
	second := make(chan Result)
	go func() { second <- s.Commit(ctx, []Op{{Key: "/r/a/x", Value: []byte("2")}})[0] }()
	j.hold <- struct{}{}
	if r := <-first; r.Err != nil || r.Rev != 2 {
		t.Errorf("first: %+v", r)
	}
	if r := <-second; !errors.Is(r.Err, ErrExists) {
		t.Errorf("second: %+v", r)
	}
	if evs, err := w.Next(ctx); err != nil || len(evs) != 1 {
		t.Errorf("watch: %v, %v", evs, err)
	}

	// The context ends while the write is under way.
	ctx2, cancel := context.WithCancel(ctx)
	go func() { second <- s.Commit(ctx2, []Op{{Key: "/r/a/y"}})[0] }()
	<-j.entered
	cancel()
	if r := <-second; !errors.Is(r.Err, context.Canceled) {
		t.Errorf("interrupted: %+v", r)
	}
	j.hold <- struct{}{}
	for s.Rev() != 3 {
		if evs, err := w.Next(ctx); err != nil || len(evs) != 1 || evs[0].Rev != 3 {
			t.Fatalf("the interrupted write is %v, %v", evs, err)
		}
	}
}

// A lazy operation is there at once and goes to disk a little later, but the
// first one is preceded by a note in the log.
func TestLazy(t *testing.T) {
	j := &faultyJournal{}
	j.left.Store(100)
	s := newLocal(Options{LazySync: time.Hour})
	s.disk = j
	s.start()
	lazy := func(key string) {
		if r := s.Commit(t.Context(), []Op{{Key: key, Lazy: true}})[0]; r.Err != nil {
			t.Error(r.Err)
		}
	}
	lazy("/r/a/1")
	if n := j.appends.Load(); n != 1 {
		t.Errorf("%d appends after the first lazy operation, want 1", n)
	}
	lazy("/r/a/2")
	lazy("/r/a/3")
	if n := j.appends.Load(); n != 1 {
		t.Errorf("%d appends after three lazy operations, want 1", n)
	}
	s.Commit(t.Context(), []Op{{Key: "/r/a/4"}})
	if n := j.appends.Load(); n != 2 {
		t.Errorf("%d appends after an ordinary operation, want 2", n)
	}
	lazy("/r/a/5")
	s.Close() // writes the fifth, then the note that nothing is missing
	if n := j.appends.Load(); n != 4 {
		t.Errorf("%d appends at the end, want 4", n)
	}
}
