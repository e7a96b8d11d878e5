package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sagong/lib/disk"
	"sagong/store"
	"sagong/store/storetest"
	"sagong/store/wal"
)

func open(t testing.TB, opts store.Options) *store.Local {
	t.Helper()
	s, err := store.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t testing.TB, s store.Store, key, value string) *store.Record {
	t.Helper()
	r := s.Commit(t.Context(), []store.Op{{Key: key, Value: []byte(value), Expect: store.AnyRev}})[0]
	if r.Err != nil {
		t.Fatalf("put %s: %v", key, r.Err)
	}
	return r.Record
}

func del(t testing.TB, s store.Store, key string) store.Rev {
	t.Helper()
	r := s.Commit(t.Context(), []store.Op{{Key: key, Delete: true, Expect: store.AnyRev}})[0]
	if r.Err != nil {
		t.Fatalf("delete %s: %v", key, r.Err)
	}
	return r.Rev
}

// dump is everything at a revision.
func dump(t testing.TB, s store.Store, rev store.Rev) string {
	t.Helper()
	l, err := s.List(t.Context(), "", store.ListOptions{Rev: rev})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, r := range l.Records {
		fmt.Fprintf(&b, "%s=%s@%d,%d,%d\n", r.Key, r.Value(), r.CreateRev, r.ModRev, r.Expires)
	}
	return b.String()
}

func TestRestart(t *testing.T) {
	opts := store.Options{Dir: t.TempDir()}
	var want string
	rev := store.Rev(1)
	for i := range 4 {
		s := open(t, opts)
		if got := dump(t, s, 0); got != want || s.Rev() != rev {
			t.Fatalf("start %d at revision %d, want %d:\n%swant\n%s", i, s.Rev(), rev, got, want)
		}
		a := put(t, s, "/r/a/x", fmt.Sprint(i))
		put(t, s, "/r/a/y", fmt.Sprint(i))
		put(t, s, fmt.Sprint("/r/a/", i), "new")
		if r, _, err := s.Get(t.Context(), "/r/a/x", a.ModRev); err != nil || r != a {
			t.Fatal(r, err)
		}
		rev = del(t, s, "/r/a/y") // the last operation: its revision survives
		want = dump(t, s, 0)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A restart keeps the young history: watchers go on where they were, and lists
// at a revision of before still work.
func TestRestartKeepsHistory(t *testing.T) {
	opts := store.Options{Dir: t.TempDir(), Tag: storetest.Tag}
	s := open(t, opts)
	a := put(t, s, "/r/a/x", "n1,1")
	before := dump(t, s, a.ModRev)
	put(t, s, "/r/a/x", "n2,2")
	del(t, s, "/r/a/x")
	s.Close()
	s = open(t, opts)
	if got := dump(t, s, a.ModRev); got != before {
		t.Errorf("list at revision %d:\n%swant\n%s", a.ModRev, got, before)
	}
	for _, wo := range []store.WatchOptions{{}, {Tag: "n2"}} {
		w, err := s.Watch(t.Context(), "/r/a/", a.ModRev, wo)
		if err != nil {
			t.Fatal(err)
		}
		evs, err := w.Next(t.Context())
		if err != nil || len(evs) != 2 || evs[0].Prev == nil || string(evs[0].Prev.Value()) != "n1,1" || evs[1].Type != store.Delete || string(evs[1].Record.Value()) != "n2,2" {
			t.Errorf("watch %+v after a restart: %+v, %v", wo, evs, err)
		}
		w.Close()
	}

	// Compaction is remembered.
	if err := s.Compact(t.Context(), a.ModRev+1); err != nil {
		t.Fatal(err)
	}
	put(t, s, "/r/a/z", "1")
	s.Close()
	s = open(t, opts)
	if _, err := s.Watch(t.Context(), "/r/a/", a.ModRev, store.WatchOptions{}); !errors.Is(err, store.ErrCompacted) || s.CompactedRev() != a.ModRev+1 {
		t.Errorf("watch below the compacted revision %d: %v", s.CompactedRev(), err)
	}
	// A client may know revision 1 of an empty, older store.
	if _, err := s.Watch(t.Context(), "/r/a/", s.Rev()+1, store.WatchOptions{}); !errors.Is(err, store.ErrFutureRev) {
		t.Errorf("watch from the future: %v", err)
	}
}

func TestDirectoryInUse(t *testing.T) {
	opts := store.Options{Dir: t.TempDir()}
	open(t, opts)
	_, err := store.Open(opts)
	if !errors.Is(err, wal.ErrBusy) || !strings.Contains(err.Error(), opts.Dir) {
		t.Errorf("second server: %v, want an error that names %s", err, opts.Dir)
	}
}

// Snapshots are written beside a stream of commits, and every state that they
// and the log leave behind is the right one.
func TestSnapshotsUnderLoad(t *testing.T) {
	opts := store.Options{Dir: t.TempDir(), SnapshotBytes: 200 << 10, HistoryBytes: 50 << 10}
	for range 3 {
		s := open(t, opts)
		for i := range 40 {
			var ops []store.Op
			for j := range 50 {
				ops = append(ops, store.Op{Key: fmt.Sprintf("/r/a/%d", (i*37+j)%300), Value: bytes.Repeat([]byte("v"), 300), Expect: store.AnyRev, Delete: j%9 == 8})
			}
			s.Commit(t.Context(), ops)
		}
		want, rev := dump(t, s, 0), s.Rev()
		if s.CompactedRev() == 1 {
			t.Error("the history is not bounded by its bytes")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, opts)
		if got := dump(t, s, 0); got != want || s.Rev() != rev {
			t.Fatalf("after a restart at revision %d, want %d: the records differ", s.Rev(), rev)
		}
		if n := len(names(t, filepath.Join(opts.Dir, "snap"))); n < 1 || n > 2 {
			t.Errorf("%d snapshots are kept, want one, or two once there were more", n)
		}
		s.Close()
	}
}

func names(t *testing.T, dir string) []string {
	names, err := disk.OS{}.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestBackup(t *testing.T) {
	s := open(t, store.Options{Dir: t.TempDir()})
	for i := range 20 {
		put(t, s, fmt.Sprintf("/r/a/%02d", i), "v")
	}
	s.Commit(t.Context(), []store.Op{{Key: "/r/a/ttl", Value: []byte("v"), TTL: 1e15}})
	del(t, s, "/r/a/07")
	var backup bytes.Buffer
	rev, err := s.Snapshot(t.Context(), &backup)
	if err != nil || rev != s.Rev() {
		t.Fatal(rev, err)
	}
	want := dump(t, s, 0)
	put(t, s, "/r/a/later", "v")

	dir := filepath.Join(t.TempDir(), "restored")
	got, err := store.Restore(dir, bytes.NewReader(backup.Bytes()), 1000)
	if err != nil || got != rev+1000 {
		t.Fatalf("restored at revision %d, %v; want %d", got, err, rev+1000)
	}
	r := open(t, store.Options{Dir: dir})
	if dump(t, r, 0) != want || r.Rev() != rev+1000 {
		t.Errorf("restored at revision %d:\n%swant\n%s", r.Rev(), dump(t, r, 0), want)
	}
	if _, err := r.Watch(t.Context(), "/r/a/", rev, store.WatchOptions{}); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("watch from before the restore: %v", err)
	}
	if n := put(t, r, "/r/a/new", "v"); n.ModRev != rev+1001 {
		t.Errorf("the first write has revision %d", n.ModRev)
	}
	r.Close()
	if _, err := store.Restore(dir, bytes.NewReader(backup.Bytes()), 0); err == nil {
		t.Error("restore over a store")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Snapshot(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("backup with an ended context: %v", err)
	}
}

// A full disk stops the writes with an error that says what to do. Reads go on,
// and after space was made a restart has all that was acknowledged.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a small file system; TestWriteErrors covers the rest")
	}
	mnt := t.TempDir()
	if err := syscall.Mount("tmpfs", mnt, "tmpfs", 0, "size=68m"); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mnt, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	ballast := filepath.Join(mnt, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	opts := store.Options{Dir: filepath.Join(mnt, "data"), HistoryBytes: 1}
	s := open(t, opts)
	value := bytes.Repeat([]byte("v"), 2<<20)
	var last store.Rev
	var err error
	for i := range 100 {
		r := s.Commit(t.Context(), []store.Op{{Key: fmt.Sprint("/r/a/", i%2), Value: value, Expect: store.AnyRev}})[0]
		if err = r.Err; err != nil {
			break
		}
		last = r.Rev
	}
	if !errors.Is(err, store.ErrStopped) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), opts.Dir) || !strings.Contains(err.Error(), "free space") {
		t.Fatalf("write to a full disk: %v", err)
	}
	if err := s.Failed(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a store that refuses writes says it is well: %v", err)
	}
	if l, err := s.List(t.Context(), "/r/a/", store.ListOptions{}); err != nil || len(l.Records) != 2 || l.Rev != last {
		t.Errorf("list after that: revision %d, %v; want %d", l.Rev, err, last)
	}
	s.Close()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s = open(t, opts)
	// The write that failed may or may not be there; those before it are.
	if s.Rev() != last && s.Rev() != last+1 {
		t.Errorf("after making space at revision %d, want %d", s.Rev(), last)
	}
	if r, _, err := s.Get(t.Context(), "/r/a/0", 0); err != nil || !bytes.Equal(r.Value(), value) {
		t.Errorf("get: %v", err)
	}
	s.Close()
}
