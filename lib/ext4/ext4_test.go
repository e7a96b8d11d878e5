package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var id = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

func image(t *testing.T, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "img"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

// check has the file system's own checker look at it, where there is one. That
// lost+found is missing is all it may say.
func check(t *testing.T, f *os.File) {
	t.Helper()
	fsck, err := exec.LookPath("e2fsck")
	if err != nil {
		t.Skip("no e2fsck on this machine")
	}
	out, _ := exec.Command(fsck, "-fn", f.Name()).CombinedOutput()
	for line := range bytes.Lines(out) {
		switch line := string(bytes.TrimSpace(line)); {
		case line == "", line == "/lost+found not found.  Create? no", bytes.HasPrefix([]byte(line), []byte("e2fsck ")), bytes.HasPrefix([]byte(line), []byte("Pass ")), bytes.HasPrefix([]byte(line), []byte(f.Name()+": ")):
		default:
			t.Errorf("%s", line)
		}
	}
}

// Sizes around the edges of groups and meta groups.
var sizes = []int64{16 << 20, 100 << 20, 128 << 20, 128<<20 + 4096, 131 << 20, 1 << 30, 5<<30 + 12345, 16 << 30, 17 << 30, 40 << 30}

func TestFormat(t *testing.T) {
	for _, size := range sizes {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			f := image(t, size)
			if err := Format(f, size, id, time.Unix(1e9, 0)); err != nil {
				t.Fatal(err)
			}
			if n, err := Size(f); err != nil || n > size || size-n > 4<<20 {
				t.Errorf("size %d, %v", n, err)
			}
			check(t, f)
		})
	}
}

func TestGrow(t *testing.T) {
	for i, size := range sizes[:len(sizes)-1] {
		for _, to := range sizes[i+1:] {
			t.Run(fmt.Sprintf("%d to %d", size, to), func(t *testing.T) {
				f := image(t, size)
				if err := Format(f, size, id, time.Unix(1e9, 0)); err != nil {
					t.Fatal(err)
				}
				if err := f.Truncate(to); err != nil {
					t.Fatal(err)
				}
				if err := Grow(f, to); err != nil {
					t.Fatal(err)
				}
				if n, err := Size(f); err != nil || n > to || to-n > 4<<20 {
					t.Errorf("size %d, %v", n, err)
				}
				check(t, f)
			})
		}
	}
}

// stops fails after a number of writes, as a killed process does.
type stops struct {
	*os.File
	left int
}

func (s *stops) WriteAt(b []byte, at int64) (int, error) {
	if s.left--; s.left < 0 {
		return 0, errors.New("killed")
	}
	return s.File.WriteAt(b, at)
}

func TestGrowAfterInterruption(t *testing.T) {
	const size, to = 100 << 20, 600 << 20
	for writes := 0; ; writes++ {
		f := image(t, to)
		if err := Format(f, size, id, time.Unix(1e9, 0)); err != nil {
			t.Fatal(err)
		}
		done := Grow(&stops{f, writes}, to) == nil
		if err := Grow(f, to); err != nil {
			t.Fatal(err)
		}
		check(t, f)
		if done {
			return
		}
	}
}

func TestTooSmall(t *testing.T) {
	if err := Format(image(t, 1<<20), 1<<20, id, time.Now()); err == nil {
		t.Error("made a file system in 1 MiB")
	}
}

func TestImageSizeHoldsCapacity(t *testing.T) {
	for _, capacity := range sizes {
		l, err := plan(ImageSize(capacity))
		if err != nil {
			t.Fatal(err)
		}
		free := l.blocks - int64(journalBlocks(l.blocks)) - min(l.blocks/50, kernelReserve)
		for g := range l.groups {
			free -= l.overhead(g)
		}
		if got := free * BlockSize; got < capacity || got > capacity+capacity/50+16<<20 {
			t.Errorf("%d bytes of files in an image for %d", got, capacity)
		}
	}
}

// FuzzGrow enlarges what any file says it is, without harm.
func FuzzGrow(f *testing.F) {
	b := make([]byte, 32<<10)
	for at, n := range map[int]uint32{0x4: 8192, 0x20: groupBlocks, 0x28: groupInodes, 0x38: magic, 0x58: inodeSize, 0x60: incompat} {
		le.PutUint32(b[1024+at:], n)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			return
		}
		file := image(t, 0)
		file.Write(b)
		file.Truncate(64 << 20)
		Size(file)
		Grow(file, 64<<20)
	})
}
