package loop

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sagong/lib/ext4"
)

// A file system made without any program of the host is mounted, is full when it
// should be, and is larger after it was enlarged.
func TestFileSystemInAFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	const capacity = 32 << 20
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := ext4.ImageSize(capacity)
	f.Truncate(size)
	if err := ext4.Format(f, size, [16]byte{1}, time.Now()); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "mnt")
	os.Mkdir(target, 0o755)
	number := -1
	mount := func() {
		t.Helper()
		d, err := Attach(f, func(n int) error { number = n; return nil })
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EPERM) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if again, err := Open(number, f); again == nil || err != nil {
			t.Errorf("the device is not known again: %v", err)
		} else {
			again.Close()
		}
		if err := unix.Mount(d.Path(), target, "ext4", 0, "discard"); err != nil {
			t.Fatal(err)
		}
	}
	unmount := func() {
		t.Helper()
		if err := unix.Unmount(target, 0); err != nil {
			t.Fatal(err)
		}
	}
	fill := func(name string) (n int64) {
		w, err := os.Create(filepath.Join(target, name))
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		b := make([]byte, 1<<20)
		for {
			k, err := w.Write(b)
			n += int64(k)
			if err != nil {
				if !errors.Is(err, unix.ENOSPC) {
					t.Error(err)
				}
				return n
			}
		}
	}
	mount()
	if entries, _ := os.ReadDir(target); len(entries) != 0 {
		t.Errorf("a new file system holds %v", entries)
	}
	if n := fill("a"); n < capacity-1<<20 || n > capacity+4<<20 {
		t.Errorf("%d bytes fit, want %d", n, capacity)
	}
	unmount()
	size = ext4.ImageSize(3 * capacity)
	f.Truncate(size)
	if err := ext4.Grow(f, size); err != nil {
		t.Fatal(err)
	}
	mount()
	if n := fill("b"); n < 2*capacity-4<<20 || n > 2*capacity+8<<20 {
		t.Errorf("%d more bytes fit, want %d", n, 2*capacity)
	}
	if st, err := os.Stat(filepath.Join(target, "a")); err != nil || st.Size() < capacity-1<<20 {
		t.Errorf("the first file: %v, %v", st, err)
	}
	unmount()
}
