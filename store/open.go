package store

import (
	"bytes"
	"fmt"
	"io"
	"strings"
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
	}, wal.Loader{Reset: l.reset, Record: l.record, Batch: l.batch, Change: l.change})
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
// open. Changes young enough for the history go there too, so that watchers can
// go on where they were before a restart.
type loading struct {
	s     *Local
	since int64 // wall clock in milliseconds from which on changes are kept
	wall  time.Time
	keep  bool
	from  Rev // revision before the first change kept
	at    int64
}

func (l *loading) reset() {
	l.s.index = newIndex(l.s.opts)
	l.s.c.deadline = nil
	l.s.stale = false
}

func (l *loading) newRecord(it *item, r wal.Record) (*Record, error) {
	value := r.Value
	if !r.Delete {
		var stale bool
		var err error
		if value, stale, err = l.s.unseal(it.key, r.Value); err != nil {
			return nil, err
		}
		l.s.stale = l.s.stale || stale
	}
	rec := &Record{Key: it.key, CreateRev: Rev(r.Create), ModRev: Rev(r.Mod), Expires: r.Expires, deleted: r.Delete}
	rec.value.set(bytes.Clone(value))
	if r.Expires != 0 {
		left := max(0, time.Unix(r.Expires, 0).Sub(l.wall))
		l.s.c.deadline.add(rec, l.s.now(), left)
	}
	return rec, nil
}

func (l *loading) record(r wal.Record) error {
	x := l.s.index
	it := x.ensure(r.Key)
	rec, err := l.newRecord(it, r)
	if err != nil {
		return err
	}
	if x.live.Len() > l.s.opts.PackAbove {
		l.s.c.packer.pack(rec)
	}
	it.tip = rec
	it.head.Store(it.tip)
	x.keys[it.key[:x.topic(it.key)]]++
	x.live.Load(it)
	return nil
}

func (l *loading) batch(h wal.Header) error {
	if !l.keep && h.Millis >= l.since {
		l.keep = true
		l.from = Rev(h.First - 1)
	}
	// As old as it is, on the monotonic clock of this process.
	l.at = min(0, h.Millis-l.wall.UnixMilli())
	return nil
}

func (l *loading) change(r wal.Record) error {
	s := l.s
	it := s.index.ensure(r.Key)
	tip := it.tip
	exists := tip != nil && !tip.deleted
	switch {
	case r.Delete && !exists:
		return fmt.Errorf("revision %d deletes %q, which does not exist", r.Mod, r.Key)
	case exists && tip.CreateRev != Rev(r.Create):
		return fmt.Errorf("revision %d of %q was created at %d, not at %d", r.Mod, r.Key, tip.CreateRev, r.Create)
	case !exists && r.Create != r.Mod:
		return fmt.Errorf("revision %d changes %q, which does not exist", r.Mod, r.Key)
	}
	rec, err := l.newRecord(it, r)
	if err != nil {
		return err
	}
	e := &entry{Event: Event{Rev: rec.ModRev, Record: rec}, at: l.at}
	if exists {
		e.Prev = tip
	}
	if r.Delete {
		e.Type = Delete
		rec.value.share(&tip.value)
	}
	it.tip = rec
	s.index.mu.Lock() // for form: nobody else is there yet
	defer s.index.mu.Unlock()
	if !l.keep {
		if r.Delete {
			s.index.removeLocked(it)
		} else {
			s.index.publishLocked(it, rec)
			if s.index.live.Len() > s.opts.PackAbove {
				s.c.packer.pack(rec)
			}
		}
		return nil
	}
	rec.older.Store(tip)
	s.index.publishLocked(it, rec)
	s.rev.Store(int64(e.Rev))
	l.toHistory(e)
	return nil
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
	s.rev.Store(rec.Rev)
	s.c.next = Rev(rec.Rev) + 1
	s.compacted.Store(int64(l.from))
	if c := Rev(rec.Compacted); c > l.from {
		s.trim(min(c, Rev(rec.Rev)))
	}
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
