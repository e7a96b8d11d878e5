package store

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sagong/store/wal"
)

// Local is the store of a single server. One goroutine, the committer, makes
// all changes; readers never wait for it, but for the instant of a publication.
type Local struct {
	opts  Options
	log   *slog.Logger
	disk  journal // nil: nothing is kept on disk
	index *index
	epoch time.Time // zero of the store's monotonic milliseconds

	sealing sync.RWMutex // held for reading from sealing a value to queueing it
	stale   bool         // Open found values that the cipher would seal otherwise now

	rev       atomic.Int64 // newest visible revision
	compacted atomic.Int64
	thinned   atomic.Int64 // the newest revision to which a topic was compacted by itself

	everything *topic // all events; the history that compaction trims
	topicsMu   sync.RWMutex
	topics     map[string]*topic

	pinMu sync.Mutex
	pins  map[Rev]int // revisions that must stay readable

	c       committer
	closing chan struct{}
	closed  sync.Once
	wait    sync.WaitGroup
}

// journal is what the committer needs of the disk.
type journal interface {
	// Append makes a batch durable. After an error the journal is useless.
	Append(*wal.Batch) error
	// Cut is Append, after which the log goes on in a new file.
	Cut(*wal.Batch) error
	// SnapshotDue reports whether the log has grown enough for a snapshot.
	SnapshotDue() bool
	// Snapshot writes the state after the last Append, given by records, and
	// drops the log before it. It may run beside Append.
	Snapshot(wal.State, iter.Seq[wal.Record]) error
	// Mark returns the position of the last Append.
	Mark() uint64
	Close() error
}

var _ Store = (*Local)(nil)

// emptyRev is the revision of a store in which nothing has happened, as in etcd.
// It is not 0, which means "now" to Watch: a list of the empty store and a watch
// from its revision must not leave a gap.
const emptyRev Rev = 1

// OpenMemory returns a store that keeps nothing on disk.
func OpenMemory(opts Options) *Local {
	s := newLocal(opts)
	s.start()
	return s
}

func newLocal(opts Options) *Local {
	opts = opts.withDefaults()
	s := &Local{
		opts:       opts,
		log:        opts.Log,
		index:      newIndex(opts),
		epoch:      time.Now(),
		everything: &topic{},
		topics:     map[string]*topic{},
		pins:       map[Rev]int{},
		closing:    make(chan struct{}),
	}
	s.rev.Store(int64(emptyRev))
	s.compacted.Store(int64(emptyRev))
	s.c.init(s)
	return s
}

func (s *Local) start() {
	s.wait.Go(s.c.run)
}

// now is the store's monotonic clock, in milliseconds.
func (s *Local) now() int64 { return time.Since(s.epoch).Milliseconds() }

// Rev implements Store.
func (s *Local) Rev() Rev { return Rev(s.rev.Load()) }

// CompactedRev implements Store.
func (s *Local) CompactedRev() Rev { return Rev(s.compacted.Load()) }

func (s *Local) revError(kind error, rev, floor Rev) error {
	return &RevError{Kind: kind, Rev: rev, Compacted: floor, Current: s.Rev()}
}

// check returns an error if rev is not one at which keys with a prefix can be read.
func (s *Local) check(prefix string, rev Rev) error {
	floor := s.floor(prefix)
	switch {
	case rev > s.Rev():
		return s.revError(ErrFutureRev, rev, floor)
	case rev < floor:
		return s.revError(ErrCompacted, rev, floor)
	}
	return nil
}

// Get implements Store.
func (s *Local) Get(ctx context.Context, key string, rev Rev) (*Record, Rev, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	for {
		now := s.Rev()
		at := rev
		if at == 0 {
			at = now
		}
		if rev != 0 {
			if err := s.check(key, at); err != nil {
				return nil, now, err
			}
		}
		var r *Record
		if it := s.index.get(key); it != nil {
			r = it.at(at)
		}
		if r == nil && at < s.floor(key) {
			continue // the chain was cut while it was walked
		}
		if r == nil || r.deleted {
			return nil, now, ErrNotFound
		}
		return r, now, nil
	}
}

// Watch implements Store.
func (s *Local) Watch(ctx context.Context, prefix string, from Rev, opts WatchOptions) (Watcher, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case <-s.closing:
		return nil, ErrClosed
	default:
	}
	for {
		at := from
		if at == 0 {
			at = s.Rev()
		}
		err := s.check(prefix, at)
		if err == nil {
			var w *watcher
			if w, err = s.watch(prefix, at, opts); err == nil {
				return w, nil
			}
		}
		if from != 0 {
			return nil, err
		}
	}
}

// topic returns the topic of that name; it is made if needed.
func (s *Local) topic(name string) *topic {
	if name == "" {
		return s.everything
	}
	s.topicsMu.RLock()
	t := s.topics[name]
	s.topicsMu.RUnlock()
	if t != nil {
		return t
	}
	s.topicsMu.Lock()
	defer s.topicsMu.Unlock()
	if t = s.topics[name]; t == nil {
		t = &topic{name: strings.Clone(name), tag: s.opts.Tag}
		s.topics[t.name] = t
	}
	return t
}

// pin keeps the newest revision readable until release is called.
func (s *Local) pin() (rev Rev, release func()) {
	s.pinMu.Lock()
	rev = s.Rev() // compaction takes the lock too, and does not pass the newest
	s.pins[rev]++
	s.pinMu.Unlock()
	return rev, func() {
		s.pinMu.Lock()
		if s.pins[rev]--; s.pins[rev] == 0 {
			delete(s.pins, rev)
		}
		s.pinMu.Unlock()
	}
}

// Failed says why the store refuses writes: a failed write or sync of its disk.
// Nil while all is well, and after Close.
func (s *Local) Failed() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if errors.Is(s.c.stop, ErrClosed) {
		return nil
	}
	return s.c.stop
}

// Close implements Store.
func (s *Local) Close() error {
	s.closed.Do(func() { close(s.closing) })
	s.wait.Wait()
	return s.c.closeErr
}
