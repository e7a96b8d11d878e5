package store

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sagong/store/wal"
)

// lazySkip is by how much the revision jumps when a crash may have lost lazy
// operations: their revisions were seen by watchers and are not given again. It
// is more than can be under way at once.
const lazySkip = 1 << 20

// Open opens the store in Options.Dir, makes it if it is new, and reads back
// what was acknowledged. It fails, and changes nothing, if another server uses
// the directory or if what is on disk is damaged.
func Open(opts Options) (*Local, error) {
	begin := time.Now()
	s := newLocal(opts)
	l := &loading{s: s, since: begin.Add(-s.opts.History).UnixMilli(), wall: begin}
	disk, rec, err := wal.Open(wal.Options{
		Dir:           s.opts.Dir,
		FS:            s.opts.FS,
		Log:           s.opts.Log,
		SnapshotBytes: s.opts.SnapshotBytes,
		Base:          int64(emptyRev),
	}, wal.Loader{Reset: l.reset, Base: l.s.c.packer.adopt, Records: l.records, Changes: l.changes})
	if err != nil {
		return nil, err
	}
	s.disk = disk
	l.finish(rec)
	s.log.Info("store is open", "dir", s.opts.Dir, "revision", rec.Rev, "keys", s.index.live.Len(),
		"snapshot", rec.Snapshot, "entries", rec.Index, "took", time.Since(begin))
	s.start()
	return s, nil
}

// loading puts what the disk gives into the index of a store that is not yet
// open. Records of the snapshot are made, and packed, on all processors, and come
// into the index in order. Values of the log stay in the memory they were read to
// until all of it is in place: most are superseded by then. Changes young enough for
// the history go there too, so that watchers can go on where they were before a
// restart.
type loading struct {
	s     *Local
	since int64 // wall clock in milliseconds from which on changes are kept
	wall  time.Time
	keep  bool
	from  Rev // revision before the first change kept
	at    int64
	base  Rev // revision before the first change of the log, 0 when there is none

	made  atomic.Int64 // records of the snapshot, which may not be in the index yet
	stale atomic.Bool  // some value would be sealed otherwise now
}

func (l *loading) reset() {
	l.s.index = newIndex(l.s.opts)
	l.s.c.packer.forget()
	l.made.Store(0)
	l.stale.Store(false)
}

// newRecord makes a record of the snapshot. Its value is packed once it is known
// that there are many. Any goroutine may call it.
func (l *loading) newRecord(key string, r wal.Record, buf *scratch) (*Record, error) {
	rec := &Record{Key: key, CreateRev: Rev(r.Create), ModRev: Rev(r.Mod), Expires: r.Expires}
	many := l.made.Add(1) > int64(l.s.opts.PackAbove)
	value := r.Value
	if r.Base != nil {
		size, ok := expanded(r.Value, len(r.Base.Text))
		if !ok {
			return nil, fmt.Errorf("%w: the value of %s cannot be unpacked", wal.ErrSnapshot, key)
		}
		if !l.s.covers(key) {
			rec.value.size = uint32(size)
			rec.value.pack(keep(r.Value), r.Base)
			return rec, nil
		}
		// It was not covered when it was written.
		value = expand(r.Value, r.Base.Text, make([]byte, 0, size))
	}
	value, err := l.unseal(key, value)
	if err != nil {
		return nil, err
	}
	if many {
		l.s.c.packer.put(rec, value, buf)
	} else {
		rec.value.set(bytes.Clone(value))
	}
	return rec, nil
}

// unseal also notes what would be sealed otherwise now.
func (l *loading) unseal(key string, stored []byte) ([]byte, error) {
	value, stale, err := l.s.unseal(key, stored)
	if stale {
		l.stale.Store(true)
	}
	return value, err
}

func (l *loading) records(rs []wal.Record) wal.Place {
	x := l.s.index
	all := make([]*item, len(rs))
	var buf scratch
	for i, r := range rs {
		it := &item{key: r.Key}
		rec, err := l.newRecord(it.key, r, &buf)
		if err != nil {
			return func() error { return err }
		}
		it.tip = rec
		it.head.Store(rec)
		all[i] = it
		// No key comes twice.
		sh := x.shard(it.key)
		sh.mu.Lock()
		sh.items[it.key] = it
		sh.mu.Unlock()
	}
	return func() error {
		for _, it := range all {
			x.keys[it.key[:x.topic(it.key)]]++
			x.live.Load(it)
		}
		return nil
	}
}

func (l *loading) changes(entries []wal.Entry) wal.Place {
	var all []*Record
	for _, e := range entries {
		for _, r := range e.Changes {
			rec := &Record{Key: r.Key, CreateRev: Rev(r.Create), ModRev: Rev(r.Mod), Expires: r.Expires, deleted: r.Delete}
			if !r.Delete {
				value, err := l.unseal(r.Key, r.Value)
				if err != nil {
					return func() error { return err }
				}
				rec.value.set(value) // not its own yet
			}
			all = append(all, rec)
		}
	}
	return func() error {
		next := all
		for _, e := range entries {
			if l.base == 0 {
				l.base = Rev(e.First - 1)
			}
			if !l.keep && e.Millis >= l.since {
				l.keep = true
				l.from = Rev(e.First - 1)
			}
			// As old as it is, on the monotonic clock of this process.
			l.at = min(0, e.Millis-l.wall.UnixMilli())
			for range e.Changes {
				if err := l.change(next[0]); err != nil {
					return err
				}
				next = next[1:]
			}
		}
		return nil
	}
}

// change puts a record of the log into the index.
func (l *loading) change(rec *Record) error {
	s := l.s
	it := s.index.ensure(rec.Key)
	rec.Key = it.key
	tip := it.tip
	exists := tip != nil && !tip.deleted
	switch {
	case rec.deleted && !exists:
		return fmt.Errorf("revision %d deletes %q, which does not exist", rec.ModRev, rec.Key)
	case exists && tip.CreateRev != rec.CreateRev:
		return fmt.Errorf("revision %d of %q was created at %d, not at %d", rec.ModRev, rec.Key, tip.CreateRev, rec.CreateRev)
	case !exists && rec.CreateRev != rec.ModRev:
		return fmt.Errorf("revision %d changes %q, which does not exist", rec.ModRev, rec.Key)
	}
	e := &entry{Event: Event{Rev: rec.ModRev, Record: rec}, at: l.at}
	if exists {
		e.Prev = tip
	}
	if rec.deleted {
		e.Type = Delete
		rec.value.share(&tip.value)
	}
	it.tip = rec
	s.index.mu.Lock() // for form: nobody else is there yet
	defer s.index.mu.Unlock()
	if !l.keep {
		if rec.deleted {
			s.index.removeLocked(it)
		} else {
			s.index.publishLocked(it, rec)
		}
		return nil
	}
	rec.older.Store(tip)
	s.index.publishLocked(it, rec)
	s.rev.Store(int64(e.Rev))
	l.toHistory(e)
	return nil
}

// settle gives all that is left a value of its own. The committer packs it.
func (l *loading) settle() {
	s := l.s
	var own []*Record
	take := func(r *Record) {
		if l.base > 0 && r.ModRev > l.base {
			own = append(own, r)
		}
	}
	h := &s.everything.all
	held := make(map[*Record]bool, h.n) // by the history
	for i := range h.n {
		if e := h.at(i); e != nil {
			for _, r := range []*Record{e.Prev, e.Record} {
				if r != nil && !r.deleted && !held[r] {
					held[r] = true
					take(r)
				}
			}
		}
	}
	many := s.index.live.Len() > s.opts.PackAbove
	s.index.live.Scan(func(it *item) bool {
		r := it.tip
		if r.deleted {
			return true
		}
		if r.Expires != 0 {
			s.c.deadline.add(r, s.now(), max(0, time.Unix(r.Expires, 0).Sub(l.wall)))
		}
		if !held[r] && r.value.plain.Load() != nil {
			take(r)
			if many {
				s.c.unpacked = append(s.c.unpacked, r)
			}
		}
		return true
	})
	var wg sync.WaitGroup
	n := runtime.GOMAXPROCS(0)
	for i := range n {
		wg.Go(func() {
			for _, r := range own[len(own)*i/n : len(own)*(i+1)/n] {
				r.value.set(bytes.Clone(r.Value()))
			}
		})
	}
	wg.Wait()
	for i := range h.n {
		if e := h.at(i); e != nil && e.Type == Delete {
			e.Record.value.share(&e.Prev.value)
		}
	}
}

// toHistory is the committer's feed for a store that nobody watches yet.
func (l *loading) toHistory(e *entry) {
	s := l.s
	s.retain(e)
	e.seq = s.everything.all.end()
	s.everything.all.push(e)
	if n := s.opts.Topic(e.Record.Key); n > 0 {
		e.topic = s.topic(e.Record.Key[:n])
		e.topic.all.push(e)
		s.c.noteBusy(e.topic)
	}
	if h := &s.everything.all; s.c.historyBytes > s.opts.HistoryBytes || h.n > s.opts.HistoryEvents {
		l.from = h.at(0).Rev
		s.forgetOldestLocked()
	}
}

func (l *loading) finish(rec wal.Recovered) {
	s := l.s
	if !l.keep {
		l.from = Rev(rec.Rev)
	}
	if rec.Lazy {
		rec.Rev += lazySkip
		s.c.skip = true
		s.log.Warn("the server did not shut down in order; lazily written operations of its last instants may be lost, revisions go on after a gap", "revision", rec.Rev)
	}
	s.stale = l.stale.Load()
	s.rev.Store(rec.Rev)
	s.c.next = Rev(rec.Rev) + 1
	s.compacted.Store(int64(l.from))
	if c := Rev(rec.Compacted); c > l.from {
		s.trim(min(c, Rev(rec.Rev)))
	}
	s.c.thin(s.now())
	l.settle()
	s.c.trimAt = 1 // look at once
	s.c.kick <- struct{}{}
}

// Restore makes a data directory of a backup that Store.Snapshot wrote. dir must
// be empty or missing. The restored store goes on skip revisions after the
// backup's, so that no revision that was given after the backup is given again;
// clients then see a revision they know as expired and list anew.
func Restore(dir string, backup io.Reader, skip Rev) (Rev, error) {
	rev, err := wal.Restore(strings.TrimSpace(dir), backup, int64(skip))
	if err != nil {
		return 0, fmt.Errorf("cannot restore into %s: %w", dir, err)
	}
	return Rev(rev), nil
}
