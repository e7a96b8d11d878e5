package wal

import (
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"time"

	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"sagong/lib/disk"
)

// metadata is at the head of each segment.
var metadata = []byte("sagong store 1")

// slowAppend is the time from which on a write of the log is worth a warning.
const slowAppend = time.Second

// entryTerm is the term of all entries: there is only one writer.
const entryTerm = 1

// Log is an open data directory. Append may be called by one goroutine, beside
// one Snapshot.
type Log struct {
	opts  Options
	lock  io.Closer
	w     *etcdwal.WAL
	index uint64 // of the last entry; the appender's alone

	mu    sync.Mutex
	size  int64 // bytes appended since the newest snapshot
	due   int64 // size at which a snapshot is wanted
	snaps []snapFile
}

// segmentSizeMu guards the library's SegmentSizeBytes, which Cut changes.
var segmentSizeMu sync.RWMutex

// Append makes a batch durable: it is on disk when Append returns nil. After an
// error the state of the file is unknown and the log must not be used further.
func (l *Log) Append(b *Batch) error {
	segmentSizeMu.RLock()
	defer segmentSizeMu.RUnlock()
	return l.append(b)
}

// Cut is Append, after which the log goes on in a new file: a snapshot after it
// needs none of the files before.
func (l *Log) Cut(b *Batch) error {
	segmentSizeMu.Lock()
	defer segmentSizeMu.Unlock()
	defer func(size int64) { etcdwal.SegmentSizeBytes = size }(etcdwal.SegmentSizeBytes)
	etcdwal.SegmentSizeBytes = 0 // the library cuts a file that is longer
	return l.append(b)
}

func (l *Log) append(b *Batch) error {
	index := l.index + 1
	b.body = seal(b.body, index)
	term := uint64(entryTerm)
	entry := &raftpb.Entry{Index: &index, Term: &term, Data: b.body}
	begin := time.Now()
	if err := l.w.Save(&raftpb.HardState{}, []*raftpb.Entry{entry}); err != nil {
		return fmt.Errorf("cannot append to the log: %w", err)
	}
	if took := time.Since(begin); took > slowAppend {
		l.opts.Log.Warn("the disk of the data directory is slow", "dir", l.opts.Dir, "took", took, "bytes", len(b.body))
	}
	l.index = index
	l.mu.Lock()
	l.size += int64(len(b.body))
	l.mu.Unlock()
	return nil
}

// Mark is the index of the last entry appended.
func (l *Log) Mark() uint64 { return l.index }

// SnapshotDue reports whether the log has grown enough since the last snapshot.
func (l *Log) SnapshotDue() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size >= l.due
}

// Snapshot writes records, in key order, as the state after entry st.Index, and
// then removes what is not needed to go back to the snapshot before it. On an
// error the log stays as it is and a later call may succeed.
func (l *Log) Snapshot(st State, records iter.Seq[Record]) error {
	l.mu.Lock()
	before := l.size
	l.mu.Unlock()
	file := snapFile{rev: st.Rev, index: st.Index}
	file.name = file.fileName()
	dir := filepath.Join(l.opts.Dir, snapDir)
	var written int64
	err := disk.WriteFile(l.opts.FS, filepath.Join(dir, file.name), func(w io.Writer) error {
		c := &counter{w: w}
		defer func() { written = c.n }()
		return WriteSnapshot(c, st, records)
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.due = l.size + l.opts.SnapshotBytes/4
		return fmt.Errorf("cannot write snapshot %s: %w", file.name, err)
	}
	l.size -= before
	l.due = max(l.opts.SnapshotBytes, written)
	l.snaps = append(l.snaps, file)
	return l.pruneLocked()
}

// pruneLocked keeps two snapshots and the log since the older of them.
func (l *Log) pruneLocked() error {
	for len(l.snaps) > 2 {
		if err := l.opts.FS.Remove(filepath.Join(l.opts.Dir, snapDir, l.snaps[0].name)); err != nil {
			return fmt.Errorf("cannot remove an old snapshot: %w", err)
		}
		l.snaps = l.snaps[1:]
	}
	if len(l.snaps) < 2 {
		return nil
	}
	dir := filepath.Join(l.opts.Dir, logDir)
	all, err := segments(dir)
	if err != nil {
		return err
	}
	needed, err := from(all, l.snaps[0].index)
	if err != nil {
		return err
	}
	if err := l.w.ReleaseLockTo(needed[0].first + 1); err != nil {
		return err
	}
	for _, seg := range all[:len(all)-len(needed)] {
		if err := os.Remove(filepath.Join(dir, seg.name)); err != nil {
			return fmt.Errorf("cannot remove an old log file: %w", err)
		}
	}
	return nil
}

// Close releases the data directory. Everything appended is on disk already.
func (l *Log) Close() error {
	err := l.w.Close()
	if lerr := l.lock.Close(); err == nil {
		err = lerr
	}
	if err != nil {
		return fmt.Errorf("cannot close the log: %w", err)
	}
	return nil
}

// openWriter opens the log for appending after entry last, which was read and
// proved before; the library reads the last segment once more to find its place.
func openWriter(dir string, last uint64) (*etcdwal.WAL, error) {
	segmentSizeMu.RLock()
	defer segmentSizeMu.RUnlock()
	term := uint64(entryTerm)
	if last == 0 {
		term = 0
	}
	w, err := etcdwal.Open(zap.NewNop(), dir, &walpb.Snapshot{Index: &last, Term: &term})
	if err != nil {
		return nil, err
	}
	if _, _, entries, err := w.ReadAll(); err != nil || len(entries) > 0 {
		w.Close()
		return nil, fmt.Errorf("%w: %d entries after entry %d: %v", ErrLog, len(entries), last, err)
	}
	return w, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
