package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3/raftpb"

	"sagong/lib/disk"
)

// state is what a loader has put together.
type state struct {
	recs    []Record // of the log
	base    []Record // of the snapshot
	batches []Header
}

func (s *state) loader() Loader {
	return Loader{
		Reset: func() { *s = state{} },
		Base:  func(*Base) {},
		Records: func(rs []Record) Place {
			return func() error { s.base = append(s.base, keep(rs)...); return nil }
		},
		Changes: func(entries []Entry) Place {
			return func() error {
				for _, e := range entries {
					s.batches = append(s.batches, e.Header)
					s.recs = append(s.recs, keep(e.Changes)...)
				}
				return nil
			}
		},
	}
}

func keep(rs []Record) []Record {
	rs = slices.Clone(rs)
	for i := range rs {
		rs[i].Value = bytes.Clone(rs[i].Value)
	}
	return rs
}

func open(t *testing.T, dir string) (*Log, Recovered, *state) {
	t.Helper()
	s := &state{}
	l, rec, err := Open(Options{Dir: dir, SnapshotBytes: 1 << 20}, s.loader())
	if err != nil {
		t.Fatal(err)
	}
	return l, rec, s
}

// write appends n batches of two changes each; values are size long, and all
// zeros if it is a multiple of 1,000.
func write(t *testing.T, l *Log, first int64, n, size int) int64 {
	t.Helper()
	var b Batch
	fill := byte(0xAA)
	if size%1000 == 0 {
		fill = 0
	}
	for range n {
		b.Start(Header{First: first, Millis: 1e12})
		b.Put(fmt.Sprint("/r/", first), bytes.Repeat([]byte{fill}, size), first, 0)
		b.Put(fmt.Sprint("/r/", first+1), []byte("small"), first+1, 0)
		if err := l.Append(&b); err != nil {
			t.Fatal(err)
		}
		first += 2
	}
	return first
}

func TestLogRestart(t *testing.T) {
	dir := t.TempDir()
	first := int64(1)
	for i := range 4 {
		l, rec, s := open(t, dir)
		if rec.Rev != first-1 || len(s.recs) != int(first-1) || rec.Index != uint64(3*i) || len(s.batches) != 3*i {
			t.Fatalf("start %d: %+v with %d changes, want revision %d", i, rec, len(s.recs), first-1)
		}
		first = write(t, l, first, 3, 100)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLogLocked(t *testing.T) {
	dir := t.TempDir()
	l, _, _ := open(t, dir)
	defer l.Close()
	_, _, err := Open(Options{Dir: dir}, (&state{}).loader())
	if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second open: %v, want one that names %s", err, dir)
	}
}

// smallLog writes a log, cuts its file to a little more than the data, and
// returns the path and content, and the offset at which the last entry begins.
func smallLog(t *testing.T, batches, size int) (path string, data []byte, lastAt int) {
	t.Helper()
	segmentSize(t, 64<<10)
	// Thousands of variants are about bytes and not about a disk.
	dir, err := os.MkdirTemp("/dev/shm", "wal")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, _, _ := open(t, dir)
	first := write(t, l, 1, batches-1, size)
	if err := l.w.Sync(); err != nil {
		t.Fatal(err)
	}
	segs, err := segments(filepath.Join(dir, logDir))
	if err != nil || len(segs) != 1 {
		t.Fatal(segs, err)
	}
	path = filepath.Join(dir, logDir, segs[0].name)
	content := func() []byte {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b, err := readTail(f, 0)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	lastAt = (len(content()) + 7) &^ 7
	write(t, l, first, 1, size)
	l.Close()
	data = append(content(), make([]byte, sector+sector/2)...)
	return path, data[:len(data)&^(sector-1)], lastAt
}

// segmentSize sets the size of the log's files for one test.
func segmentSize(t *testing.T, size int64) {
	old := etcdwal.SegmentSizeBytes
	etcdwal.SegmentSizeBytes = size
	t.Cleanup(func() { etcdwal.SegmentSizeBytes = old })
}

// replace puts content in a file without emptying it first, upon which some file
// systems write to disk.
func replace(t *testing.T, path string, content []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != int64(len(content)) {
		if err := f.Truncate(int64(len(content))); err != nil {
			t.Fatal(err)
		}
	}
}

// rescan puts content in place of the log and counts the changes read.
func rescan(t *testing.T, path string, content []byte) (int, error) {
	t.Helper()
	replace(t, path, content)
	n := 0
	_, err := scan(filepath.Dir(path), 0, func(_ uint64, body []byte) error {
		_, recs, err := decodeAll(body)
		n += len(recs)
		return err
	})
	return n, err
}

// A flipped bit anywhere in the log is refused, or has lost nothing.
func TestLogBitFlips(t *testing.T) {
	const batches = 3
	for _, size := range []int{30, 1300, 3000} {
		path, data, _ := smallLog(t, batches, size)
		if n, err := rescan(t, path, data); err != nil || n != 2*batches {
			t.Fatalf("undamaged: %d changes, %v", n, err)
		}
		refused, harmless, end := 0, 0, len(bytes.TrimRight(data, "\x00"))
		for i := range data {
			for bit := range 8 {
				if size > 1000 && (bit != i/3%8 || i%3 != 0) || i > end+40 && i%16 != 0 {
					continue
				}
				bad := bytes.Clone(data)
				bad[i] ^= 1 << bit
				n, err := rescan(t, path, bad)
				switch {
				case errors.Is(err, ErrLog):
					refused++
				case err != nil:
					t.Errorf("bit %d of byte %d: %v", bit, i, err)
				case n != 2*batches:
					t.Errorf("bit %d of byte %d: silently lost %d of %d changes", bit, i, 2*batches-n, 2*batches)
				default:
					if harmless++; harmless%100 == 0 {
						reopen(t, path, bad, fmt.Sprintf("bit %d of byte %d", bit, i), 2*batches)
					}
				}
			}
		}
		t.Logf("values of %d bytes: %d refused, %d harmless", size, refused, harmless)
		if refused == 0 || harmless == 0 {
			t.Errorf("%d refused, %d harmless", refused, harmless)
		}
	}
}

// reopen opens a log with that content, writes on, and opens it again.
func reopen(t *testing.T, path string, content []byte, what string, changes int) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(filepath.Dir(path))
	l, rec, _ := open(t, dir)
	if rec.Rev != int64(changes) {
		t.Errorf("%s: opened at revision %d, want %d", what, rec.Rev, changes)
	}
	write(t, l, rec.Rev+1, 2, 700)
	l.Close()
	l, rec, s := open(t, dir)
	l.Close()
	if len(s.recs) != changes+4 {
		t.Errorf("%s: %d changes after writing on, want %d: %+v", what, len(s.recs), changes+4, rec)
	}
}

// A write cut short by a crash is removed, whatever part of it got to disk, and
// nothing before it is touched; the log goes on from there.
func TestLogTornTail(t *testing.T) {
	const batches = 3
	path, data, lastAt := smallLog(t, batches, 3000)
	end := len(bytes.TrimRight(data, "\x00"))
	rnd := rand.New(rand.NewPCG(5, 5))
	check := func(what string, content []byte) {
		t.Helper()
		n, err := rescan(t, path, content)
		if err != nil || n != 2*(batches-1) {
			t.Errorf("%s: %d changes, %v; want %d", what, n, err, 2*(batches-1))
			return
		}
		if rnd.IntN(40) != 0 {
			return
		}
		reopen(t, path, content, what, 2*(batches-1))
	}
	for cut := lastAt; cut < end; cut++ {
		if cut > lastAt+150 && cut < end-50 && cut%7 != 0 {
			continue
		}
		check(fmt.Sprintf("file ends at %d of %d", cut, end), data[:cut])
		zero := bytes.Clone(data)
		clear(zero[cut:])
		check(fmt.Sprintf("zeros from %d of %d", cut, end), zero)
	}
	firstSector, lastSector := lastAt/sector, (end-1)/sector
	for range 300 {
		torn := bytes.Clone(data)
		missing := false
		for s := firstSector; s <= lastSector; s++ {
			if rnd.IntN(3) == 0 {
				a, b := max(lastAt, s*sector), min((s+1)*sector, len(torn))
				missing = missing || len(bytes.TrimLeft(torn[a:b], "\x00")) > 0
				clear(torn[a:b])
			}
		}
		if missing {
			check("sectors missing", torn)
		}
	}
}

// A segment of another log is refused, though all in it is whole and has the
// right indexes.
func TestLogForeignSegment(t *testing.T) {
	segmentSize(t, 4096)
	var dirs [2]string
	for i := range dirs {
		dirs[i] = t.TempDir()
		l, _, _ := open(t, dirs[i])
		first := write(t, l, 1, 1, 10+i) // makes the difference
		write(t, l, first, 20, 400)
		l.Close()
	}
	segs, err := segments(filepath.Join(dirs[0], logDir))
	if err != nil || len(segs) < 3 {
		t.Fatal(segs, err)
	}
	foreign, err := os.ReadFile(filepath.Join(dirs[1], logDir, segs[1].name))
	if err != nil {
		t.Fatal(err)
	}
	replace(t, filepath.Join(dirs[0], logDir, segs[1].name), foreign)
	if _, _, err := Open(Options{Dir: dirs[0]}, (&state{}).loader()); !errors.Is(err, ErrLog) || !strings.Contains(err.Error(), "does not continue") {
		t.Errorf("a segment of another log: %v", err)
	}
}

// The same over several segments: a flipped bit in one that is not the last is
// always found, as is a missing one, and snapshots remove the oldest.
func TestLogSegments(t *testing.T) {
	segmentSize(t, 4096)
	dir := t.TempDir()
	l, _, _ := open(t, dir)
	first := write(t, l, 1, 24, 400)
	l.Close()
	segs, err := segments(filepath.Join(dir, logDir))
	if err != nil || len(segs) < 3 {
		t.Fatalf("segments %v, %v; want three or more", segs, err)
	}
	count := func() (n int, err error) {
		_, err = scan(filepath.Join(dir, logDir), 0, func(_ uint64, body []byte) error {
			_, recs, err := decodeAll(body)
			n += len(recs)
			return err
		})
		return n, err
	}
	for _, seg := range segs[:len(segs)-1] {
		path := filepath.Join(dir, logDir, seg.name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(good); i += 3 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << (i % 8)
			replace(t, path, bad)
			if n, err := count(); !errors.Is(err, ErrLog) && (err != nil || n != int(first-1)) {
				t.Errorf("%s, byte %d flipped: %d of %d changes, %v", seg.name, i, n, first-1, err)
			}
		}
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		if n, err := count(); !errors.Is(err, ErrLog) {
			t.Errorf("%s is missing: %d changes, %v", seg.name, n, err)
		}
		if err := os.WriteFile(path, good[:len(good)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := count(); !errors.Is(err, ErrLog) {
			t.Errorf("%s is cut in half: %d changes, %v", seg.name, n, err)
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	l, rec, _ := open(t, dir)
	for range 3 {
		if err := l.Snapshot(State{Rev: rec.Rev, Index: l.Mark()}, slices.Values(someRecords(3, 3))); err != nil {
			t.Fatal(err)
		}
		rec.Rev = write(t, l, rec.Rev+1, 20, 400) - 1
	}
	left, err := segments(filepath.Join(dir, logDir))
	if err != nil || left[0].seq < segs[2].seq {
		t.Errorf("segments left are %v, %v", left, err)
	}
	l.Close()
	l, again, s := open(t, dir)
	l.Close()
	if again.Rev != rec.Rev || len(s.base) != 3 || len(s.recs) != 40 {
		t.Errorf("opened at %+v with %d records and %d changes, want revision %d", again, len(s.base), len(s.recs), rec.Rev)
	}
}

// Whatever is in the file, reading it neither panics nor makes up an entry.
func FuzzScan(f *testing.F) {
	var b Batch
	someBatch(&b, rand.New(rand.NewPCG(6, 6)), Header{First: 1, Millis: 1}, 3)
	dir := f.TempDir()
	path := filepath.Join(dir, "0000000000000000-0000000000000000.wal")
	w, err := etcdwal.Create(nil, filepath.Join(dir, "w"), metadata)
	if err != nil {
		f.Fatal(err)
	}
	index, term := uint64(1), uint64(1)
	b.body = seal(b.body, index)
	sealed := bytes.Clone(b.body)
	if err := w.Save(&raftpb.HardState{}, []*raftpb.Entry{{Index: &index, Term: &term, Data: b.body}}); err != nil {
		f.Fatal(err)
	}
	w.Close()
	good, err := os.ReadFile(filepath.Join(dir, "w", filepath.Base(path)))
	if err != nil {
		f.Fatal(err)
	}
	good = bytes.Clone(good[:1024])
	f.Add(good)
	f.Add(good[:300])
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		scan(dir, 0, func(_ uint64, body []byte) error {
			if !bytes.Contains(sealed, body) {
				if _, ok := openPayload(data, 1); !ok && !bytes.Contains(data, body) {
					t.Error("an entry that is not in the file")
				}
			}
			return nil
		})
	})
}

func TestLogGap(t *testing.T) {
	dir := t.TempDir()
	l, _, _ := open(t, dir)
	write(t, l, 1, 2, 10)
	write(t, l, 50, 1, 10) // revisions 5 to 49 were never written
	l.Close()
	if _, _, err := Open(Options{Dir: dir}, (&state{}).loader()); !errors.Is(err, ErrLog) || !strings.Contains(err.Error(), "revision 50 follows 4") {
		t.Errorf("a gap in the revisions: %v", err)
	}
}

func TestSnapshotsAndPruning(t *testing.T) {
	dir := t.TempDir()
	l, _, _ := open(t, dir)
	first := int64(1)
	for i := range 5 {
		if i == 3 {
			l.Close()
			var rec Recovered
			l, rec, _ = open(t, dir)
			if rec.Rev != first-1 {
				t.Fatalf("opened at revision %d, want %d", rec.Rev, first-1)
			}
		}
		first = write(t, l, first, 10, 160_000)
		if !l.SnapshotDue() {
			t.Fatal("no snapshot is due after 1.6 MB")
		}
		if err := l.Snapshot(State{Rev: first - 1, Index: l.Mark()}, slices.Values(someRecords(10, 10))); err != nil {
			t.Fatal(err)
		}
		if l.SnapshotDue() {
			t.Fatal("a snapshot is due right after one")
		}
	}
	first = write(t, l, first, 1, 10)
	l.Close()
	names, err := disk.OS{}.ReadDir(filepath.Join(dir, snapDir))
	if err != nil || len(names) != 2 {
		t.Errorf("snapshots %v, %v; want two", names, err)
	}
	l, rec, s := open(t, dir)
	l.Close()
	if rec.Rev != first-1 || len(s.base) != 10 || len(s.recs) != 2 || rec.Snapshot != first-3 {
		t.Errorf("%+v, %d records and %d changes", rec, len(s.base), len(s.recs))
	}

	// The newest snapshot is damaged: the one before and the log since will do.
	newest := filepath.Join(dir, snapDir, names[1])
	flip(t, newest, 100)
	l, rec, s = open(t, dir)
	l.Close()
	if rec.Rev != first-1 || len(s.base) != 10 || len(s.recs) != 22 {
		t.Errorf("with the older snapshot: %+v, %d records and %d changes", rec, len(s.base), len(s.recs))
	}
	if _, err := os.Stat(newest + ".damaged"); err != nil {
		t.Errorf("the damaged snapshot was not set aside: %v", err)
	}
}

func TestNoSnapshotLeft(t *testing.T) {
	dir := t.TempDir()
	l, _, _ := open(t, dir)
	first := write(t, l, 1, 3, 100)
	if err := l.Snapshot(State{Rev: first - 1, Index: l.Mark()}, slices.Values(someRecords(3, 3))); err != nil {
		t.Fatal(err)
	}
	first = write(t, l, first, 1, 100)
	l.Close()
	names, _ := disk.OS{}.ReadDir(filepath.Join(dir, snapDir))
	flip(t, filepath.Join(dir, snapDir, names[0]), 60)
	l, rec, s := open(t, dir) // the log goes back to the first entry
	l.Close()
	if rec.Rev != first-1 || len(s.base) != 0 || len(s.recs) != int(first-1) {
		t.Errorf("from the log alone: %+v, %d records, %d changes", rec, len(s.base), len(s.recs))
	}

	// Restored from a backup: there is no log before the snapshot.
	dir = filepath.Join(t.TempDir(), "restored")
	backup := snapshotOf(t, State{Rev: 40, Compacted: 30}, someRecords(5, 5))
	if rev, err := Restore(dir, bytes.NewReader(backup), 1000); err != nil || rev != 1040 {
		t.Fatalf("restore: %d, %v", rev, err)
	}
	if _, err := Restore(dir, bytes.NewReader(backup), 1000); err == nil {
		t.Error("restore over a store")
	}
	l, rec, s = open(t, dir)
	write(t, l, rec.Rev+1, 1, 10)
	l.Close()
	if rec.Rev != 1040 || len(s.base) != 5 {
		t.Errorf("restored: %+v, %d records", rec, len(s.base))
	}
	names, _ = disk.OS{}.ReadDir(filepath.Join(dir, snapDir))
	flip(t, filepath.Join(dir, snapDir, names[0]), 60)
	_, _, err := Open(Options{Dir: dir}, (&state{}).loader())
	if !errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), "restore the last backup") {
		t.Errorf("no snapshot that can be read: %v", err)
	}
	if after, _ := (disk.OS{}).ReadDir(filepath.Join(dir, snapDir)); !slices.Equal(after, names) {
		t.Errorf("a refused start has changed %v to %v", names, after)
	}
	if _, err := Restore(filepath.Join(t.TempDir(), "bad"), bytes.NewReader(backup[:100]), 1); !errors.Is(err, ErrSnapshot) {
		t.Errorf("restore of half a backup: %v", err)
	}
}

// A snapshot that cannot be written costs nothing but itself.
func TestSnapshotFaults(t *testing.T) {
	for _, op := range []disk.Op{disk.OpCreate, disk.OpWrite, disk.OpSync, disk.OpRename, disk.OpSyncDir} {
		dir := t.TempDir()
		broken := false
		fsys := &disk.Faulty{FS: disk.OS{}, Fail: func(o disk.Op, path string) error {
			if broken && o == op {
				return io.ErrShortWrite
			}
			return nil
		}}
		l, _, err := Open(Options{Dir: dir, FS: fsys, SnapshotBytes: 1000}, (&state{}).loader())
		if err != nil {
			t.Fatal(err)
		}
		first := write(t, l, 1, 3, 1000)
		broken = true
		if err := l.Snapshot(State{Rev: first - 1, Index: l.Mark()}, slices.Values(someRecords(3, 3))); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("%s: %v", op, err)
		}
		broken = false
		first = write(t, l, first, 3, 1000)
		if !l.SnapshotDue() {
			t.Errorf("%s: no new snapshot is due", op)
		}
		l.Close()
		l, rec, _ := open(t, dir)
		l.Close()
		if rec.Rev != first-1 {
			t.Errorf("%s: opened at revision %d, want %d", op, rec.Rev, first-1)
		}
	}
}

// The machine crashes at every step of a snapshot: what is found afterwards is
// one snapshot or the other, and always all of the data.
func TestSnapshotCrashes(t *testing.T) {
	for step := 0; ; step++ {
		dir := t.TempDir()
		memory := disk.NewMemory()
		left, crash := -1, errors.New("crash")
		fsys := &disk.Faulty{FS: memory, Fail: func(op disk.Op, _ string) error {
			if left == 0 {
				return crash
			}
			if left > 0 {
				left--
			}
			return nil
		}}
		start := func() (*Log, Recovered, *state) {
			t.Helper()
			s := &state{}
			l, rec, err := Open(Options{Dir: dir, FS: fsys, SnapshotBytes: 1000}, s.loader())
			if err != nil {
				t.Fatalf("crash at step %d: %v", step, err)
			}
			return l, rec, s
		}
		l, _, _ := start()
		first := int64(1)
		var err error
		for i := range 3 {
			first = write(t, l, first, 2, 100)
			if i == 2 {
				left = step
			}
			err = l.Snapshot(State{Rev: first - 1, Index: l.Mark()}, slices.Values(someRecords(2*(i+1), 10)))
		}
		l.Close()
		memory.Crash()
		left = -1
		l, rec, s := start()
		l.Close()
		if rec.Rev != first-1 {
			t.Errorf("crash at step %d: revision %d, want %d", step, rec.Rev, first-1)
		}
		old, young := len(s.base) == 4 && len(s.recs) == 4, len(s.base) == 6 && len(s.recs) == 0
		if !old && !young || err == nil && !young {
			t.Errorf("crash at step %d (snapshot: %v): %d records and %d changes", step, err, len(s.base), len(s.recs))
		}
		if err == nil {
			if step < 6 {
				t.Errorf("a snapshot took only %d steps", step)
			}
			return
		}
	}
}

func flip(t *testing.T, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 4
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
