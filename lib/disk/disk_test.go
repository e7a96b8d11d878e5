package disk

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"
)

// TestFS runs the same steps on the real file system and the one in memory.
func TestFS(t *testing.T) {
	for name, fsys := range map[string]FS{"OS": OS{}, "Memory": NewMemory(), "Faulty": &Faulty{FS: OS{}, Fail: func(Op, string) error { return nil }}} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a", "b")
			if _, err := fsys.ReadDir(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("read a directory that is missing: %v", err)
			}
			if _, err := fsys.Create(filepath.Join(dir, "x")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("create in a directory that is missing: %v", err)
			}
			for range 2 {
				if err := fsys.MkdirAll(dir); err != nil {
					t.Fatal(err)
				}
			}
			x, y := filepath.Join(dir, "x"), filepath.Join(dir, "y")
			for _, content := range []string{"first, longer", "second"} {
				if err := WriteFile(fsys, x, func(w io.Writer) error { _, err := io.WriteString(w, content); return err }); err != nil {
					t.Fatal(err)
				}
				if got := read(t, fsys, x); got != content {
					t.Errorf("read %q, want %q", got, content)
				}
			}
			bad := errors.New("bad")
			if err := WriteFile(fsys, x, func(w io.Writer) error { return bad }); !errors.Is(err, bad) || read(t, fsys, x) != "second" {
				t.Errorf("a write that fails: %v, content %q", err, read(t, fsys, x))
			}
			if err := fsys.Rename(x, y); err != nil {
				t.Fatal(err)
			}
			if _, err := fsys.Open(x); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("open what was renamed: %v", err)
			}
			if names, err := fsys.ReadDir(dir); err != nil || !slices.Equal(names, []string{"y"}) {
				t.Errorf("names %v, %v", names, err)
			}
			if names, err := fsys.ReadDir(filepath.Dir(dir)); err != nil || !slices.Equal(names, []string{"b"}) {
				t.Errorf("names above %v, %v", names, err)
			}
			if err := fsys.Remove(y); err != nil {
				t.Fatal(err)
			}
			if err := fsys.Remove(y); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("remove what is gone: %v", err)
			}
			if err := fsys.Rename(x, y); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("rename what is gone: %v", err)
			}
			lock, err := fsys.Lock(filepath.Join(dir, "LOCK"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fsys.Lock(filepath.Join(dir, "LOCK")); !errors.Is(err, ErrLocked) {
				t.Errorf("second lock: %v", err)
			}
			lock.Close()
			if lock, err = fsys.Lock(filepath.Join(dir, "LOCK")); err != nil {
				t.Errorf("lock that was given back: %v", err)
			} else {
				lock.Close()
			}
		})
	}
}

func read(t *testing.T, fsys FS, path string) string {
	t.Helper()
	f, err := fsys.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestMemoryCrash(t *testing.T) {
	m := NewMemory()
	if err := m.MkdirAll("/d"); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(m, "/d/kept", func(w io.Writer) error { _, err := io.WriteString(w, "synced"); return err }); err != nil {
		t.Fatal(err)
	}
	f, err := m.Create("/d/half")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, "one ")
	f.Sync()
	m.SyncDir("/d")
	io.WriteString(f, "two")
	g, err := m.Create("/d/nameless") // its bytes are synced, its name is not
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(g, "x")
	g.Sync()
	m.Remove("/d/kept") // so is this
	lock, err := m.Lock("/d/LOCK")
	if err != nil {
		t.Fatal(err)
	}
	m.Crash()
	if names, _ := m.ReadDir("/d"); !slices.Equal(names, []string{"half", "kept"}) {
		t.Errorf("names after a crash: %v", names)
	}
	if a, b := read(t, m, "/d/half"), read(t, m, "/d/kept"); a != "one " || b != "synced" {
		t.Errorf("contents after a crash: %q, %q", a, b)
	}
	if _, err := m.Lock("/d/LOCK"); err != nil {
		t.Errorf("lock after a crash: %v", err)
	}
	lock.Close()
}

// Every operation can be made to fail, and WriteFile never harms the old file.
func TestFaults(t *testing.T) {
	bad := errors.New("bad")
	for _, op := range []Op{OpCreate, OpWrite, OpSync, OpRename} {
		m := NewMemory()
		m.MkdirAll("/d")
		armed := false
		f := &Faulty{FS: m, Fail: func(o Op, _ string) error {
			if armed && o == op {
				return bad
			}
			return nil
		}}
		put := func(s string) error {
			return WriteFile(f, "/d/x", func(w io.Writer) error { _, err := io.WriteString(w, s); return err })
		}
		if err := put("old"); err != nil {
			t.Fatal(err)
		}
		armed = true
		if err := put("new"); !errors.Is(err, bad) {
			t.Errorf("%s: %v", op, err)
		}
		armed = false
		if got := read(t, f, "/d/x"); got != "old" {
			t.Errorf("%s: content is %q", op, got)
		}
		if names, _ := m.ReadDir("/d"); !slices.Equal(names, []string{"x"}) {
			t.Errorf("%s: left behind %v", op, names)
		}
	}
	all := &Faulty{FS: NewMemory(), Fail: func(Op, string) error { return bad }}
	_, e1 := all.ReadDir("/")
	_, e2 := all.Open("/x")
	_, e3 := all.Lock("/x")
	for i, err := range []error{e1, e2, e3, all.MkdirAll("/x"), all.Remove("/x"), all.SyncDir("/")} {
		if !errors.Is(err, bad) {
			t.Errorf("operation %d: %v", i, err)
		}
	}
}
