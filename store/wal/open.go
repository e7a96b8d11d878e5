package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"

	"sagong/lib/disk"
)

// The data directory: the lock, the log's segments, the snapshots.
const (
	lockFile = "LOCK"
	logDir   = "wal"
	snapDir  = "snap"
)

// Options configure Open.
type Options struct {
	Dir           string
	FS            disk.FS // for everything but the log's segments; default the machine's
	Log           *slog.Logger
	SnapshotBytes int64 // least size of the log at which a snapshot is due
	Base          int64 // revision before the first change of a new store
}

// Loader takes what a data directory holds, in pieces. Records and Changes are
// called for several pieces at the same time, also beside Base; what they return
// is called for one after another, in order. Values are the caller's buffers, good until then: copy
// what is kept.
type Loader struct {
	Reset   func()               // forget everything: it starts again
	Base    func(*Base)          // to keep, before the first record that refers to it
	Records func([]Record) Place // some of the snapshot, in key order
	Changes func([]Entry) Place  // some of the log after it
}

// Entry is a batch as it was read from the log.
type Entry struct {
	Header
	Changes []Record
}

// Recovered is the end of what Open has read.
type Recovered struct {
	State
	Snapshot int64 // revision of the snapshot it began with, 0 for none
	Lazy     bool  // lazy operations after State may have been lost, see Header.Lazy
}

// ErrBusy is a data directory that another server uses.
var ErrBusy = errors.New("another server uses this data directory")

// Open locks a data directory, makes it if needed, and reads it back: the
// newest snapshot that is whole, then the log after it. It changes nothing on
// disk unless it succeeds, except to cut off the end of a write that a crash
// interrupted.
func Open(opts Options, l Loader) (_ *Log, _ Recovered, err error) {
	if opts.FS == nil {
		opts.FS = disk.OS{}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if err := opts.FS.MkdirAll(filepath.Join(opts.Dir, snapDir)); err != nil {
		return nil, Recovered{}, fmt.Errorf("cannot make data directory %s: %w", opts.Dir, err)
	}
	log := &Log{opts: opts, due: opts.SnapshotBytes}
	log.lock, err = opts.FS.Lock(filepath.Join(opts.Dir, lockFile))
	if errors.Is(err, disk.ErrLocked) {
		return nil, Recovered{}, fmt.Errorf("cannot open %s: %w: stop it, or choose another directory", opts.Dir, ErrBusy)
	}
	if err != nil {
		return nil, Recovered{}, fmt.Errorf("cannot lock data directory %s: %w", opts.Dir, err)
	}
	defer func() {
		if err != nil {
			log.lock.Close()
		}
	}()
	rec, err := log.load(l)
	if err != nil {
		if errors.Is(err, ErrLog) || errors.Is(err, ErrSnapshot) {
			err = fmt.Errorf("%w; nothing was changed: keep a copy of the directory, move it away and restore the last backup, "+
				"or check the disk if this machine reported errors", err)
		}
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = fmt.Errorf("%w: free space there and start again", err)
		}
		return nil, Recovered{}, fmt.Errorf("cannot open the store in %s: %w", opts.Dir, err)
	}
	return log, rec, nil
}

func (l *Log) load(to Loader) (Recovered, error) {
	dir := filepath.Join(l.opts.Dir, logDir)
	snaps, err := l.snapshots()
	if err != nil {
		return Recovered{}, err
	}
	segs, err := segments(dir)
	if err != nil {
		return Recovered{}, err
	}
	rec, used, err := l.loadSnapshot(snaps, to)
	if err != nil {
		return Recovered{}, err
	}
	if len(segs) == 0 {
		if rec.Index != 0 {
			return Recovered{}, fmt.Errorf("%w: %s has no log files, but the snapshot was made at entry %d", ErrLog, dir, rec.Index)
		}
		segmentSizeMu.RLock()
		l.w, err = etcdwal.Create(zap.NewNop(), dir, metadata)
		segmentSizeMu.RUnlock()
		if err != nil {
			return Recovered{}, fmt.Errorf("cannot make the log: %w", err)
		}
	} else {
		s, err := rec.replay(dir, to)
		if err != nil {
			return Recovered{}, err
		}
		if s.torn != "" {
			l.opts.Log.Warn("the last write was interrupted and has been removed; it was never acknowledged", "detail", s.torn)
		}
		if l.w, err = openWriter(dir, s.last); err != nil {
			return Recovered{}, fmt.Errorf("cannot open the log for writing: %w", err)
		}
		rec.Index = s.last
		l.size = s.size
	}
	l.index = rec.Index
	for _, bad := range snaps[used:] {
		path := filepath.Join(l.opts.Dir, snapDir, bad.name)
		if err := l.opts.FS.Rename(path, path+".damaged"); err != nil {
			return Recovered{}, err
		}
	}
	l.snaps = snaps[:used]
	return rec, nil
}

// replayed is how much of the log is one piece, in bytes.
const replayed = 256 << 10

// replay hands the entries of the log to the loader and checks that their
// revisions follow each other.
func (rec *Recovered) replay(dir string, to Loader) (*scanner, error) {
	p := newPieces()
	var entries []Entry
	size := 0
	flush := func() error {
		if len(entries) == 0 {
			return nil
		}
		some := entries
		entries, size = nil, 0
		return p.add(func() Place { return to.Changes(some) })
	}
	s, err := scan(dir, rec.Index, func(_ uint64, body []byte) error {
		var e Entry
		err := DecodeBatch(body, func(h Header) error {
			if h.First != rec.Rev+1 && !(h.Skip && h.First > rec.Rev) {
				return fmt.Errorf("revision %d follows %d", h.First, rec.Rev)
			}
			rec.Rev = h.First - 1
			rec.Compacted = max(rec.Compacted, h.Compacted)
			rec.Lazy = h.Lazy
			e.Header = h
			return nil
		}, func(r Record) error {
			rec.Rev = r.Mod
			e.Changes = append(e.Changes, r)
			return nil
		})
		if err != nil {
			return err
		}
		entries = append(entries, e)
		if size += len(body); size >= replayed {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if ferr := p.finish(); ferr != nil && !errors.Is(err, ferr) {
		// What could not be put in place came before what could not be read.
		err = fmt.Errorf("%w: %s: %w", ErrLog, dir, ferr)
	}
	return s, err
}

// loadSnapshot loads the newest snapshot that is whole and returns how many of
// snaps, which are in order, are good to keep.
func (l *Log) loadSnapshot(snaps []snapFile, to Loader) (Recovered, int, error) {
	var first error
	for n := len(snaps); n > 0; n-- {
		path := filepath.Join(l.opts.Dir, snapDir, snaps[n-1].name)
		to.Reset()
		st, err := l.readSnapshot(path, snaps[n-1], to)
		if err == nil {
			if first != nil {
				l.opts.Log.Warn("the newest snapshot is damaged; reading the one before and the log since", "error", first)
			}
			return Recovered{State: st, Snapshot: st.Rev}, n, nil
		}
		if !errors.Is(err, ErrSnapshot) {
			return Recovered{}, 0, fmt.Errorf("cannot read %s: %w", path, err)
		}
		if first == nil {
			first = fmt.Errorf("%s: %w", path, err)
		}
	}
	to.Reset()
	empty := Recovered{State: State{Rev: l.opts.Base}}
	if first == nil {
		return empty, 0, nil
	}
	// No snapshot is whole. The log alone will do if it goes back to the start.
	segs, err := segments(filepath.Join(l.opts.Dir, logDir))
	if err == nil && len(segs) > 0 && segs[0].seq == 0 && snaps[0].index > 0 {
		l.opts.Log.Warn("no snapshot can be read; reading the whole log", "error", first)
		return empty, 0, nil
	}
	return Recovered{}, 0, first
}

func (l *Log) readSnapshot(path string, want snapFile, to Loader) (State, error) {
	f, err := l.opts.FS.Open(path)
	if err != nil {
		return State{}, err
	}
	defer f.Close()
	p := newPieces()
	st, err := readSnapshot(f, func(st State) error {
		if st.Rev != want.rev || st.Index != want.index {
			return fmt.Errorf("%w: it is of revision %d, entry %d", ErrSnapshot, st.Rev, st.Index)
		}
		return nil
	}, to.Base, to.Records, p.add)
	if ferr := p.finish(); ferr != nil {
		err = ferr
	}
	return st, err
}

// snapFile is a snapshot by its name.
type snapFile struct {
	name  string
	rev   int64
	index uint64
}

func (s snapFile) fileName() string { return fmt.Sprintf("%016x-%016x.snap", s.rev, s.index) }

// snapshots lists the snapshots in order and removes what was left unfinished.
func (l *Log) snapshots() ([]snapFile, error) {
	dir := filepath.Join(l.opts.Dir, snapDir)
	names, err := l.opts.FS.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var snaps []snapFile
	for _, name := range names {
		if strings.HasSuffix(name, ".tmp") {
			if err := l.opts.FS.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
			continue
		}
		s := snapFile{name: name}
		if n, err := fmt.Sscanf(name, "%016x-%016x.snap", &s.rev, &s.index); n != 2 || err != nil || s.fileName() != name {
			continue
		}
		snaps = append(snaps, s)
	}
	return snaps, nil
}
