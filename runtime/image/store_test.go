package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// importImage stores an image of these layers.
func importImage(t testing.TB, s *Store, name string, layers ...[]byte) *Image {
	t.Helper()
	list, err := s.Import(context.Background(), bytes.NewReader(saved(t, name, layers...)), ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// contents counts what is on the disk.
func contents(t testing.TB, s *Store) (blobs, layers, links int) {
	t.Helper()
	count := func(dir string) int {
		list, err := os.ReadDir(filepath.Join(s.dir, dir))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	return count("blobs/sha256"), count("layers"), count("l")
}

func TestNamesMoveAndGo(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir())
	shared := archive(t, reg("shared", "s"))
	a := importImage(t, s, "app:1", shared, archive(t, reg("a", "a")))
	b := importImage(t, s, "app:2", shared, archive(t, reg("b", "b")))
	if err := s.Tag("app:1", "app:latest"); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(b.ID, "app:latest"); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(b.ID, "app@sha256:"+strings.Repeat("0", 64)); !errors.Is(err, ErrInvalidName) {
		t.Errorf("a digest as a tag: %v", err)
	}
	if err := s.Tag("none", "app:3"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a tag of nothing: %v", err)
	}
	check := func() {
		t.Helper()
		if i, err := s.Get("app"); err != nil || i.ID != b.ID {
			t.Errorf("latest is %v, %v", i, err)
		}
		if i, err := s.Get(a.ID); err != nil || !slices.Equal(i.RepoTags, []string{"docker.io/library/app:1"}) {
			t.Errorf("the first image is %+v, %v", i, err)
		}
	}
	check()
	s.Close()
	s = open(t, s.dir)
	check()
	// By one of two names only that name goes.
	if err := s.Remove(ctx, "app:latest"); err != nil {
		t.Fatal(err)
	}
	if i, err := s.Get("app:2"); err != nil || len(i.RepoTags) != 1 {
		t.Errorf("after losing a name: %+v, %v", i, err)
	}
	if blobs, layers, links := contents(t, s); blobs != 2+3+2 || layers != 3 || links != 3 {
		t.Errorf("%d blobs, %d layers, %d links", blobs, layers, links)
	}
	// By its last name it goes itself, but not the layer the other shares.
	if err := s.Remove(ctx, "app:2"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(b.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("the removed image: %v", err)
	}
	if blobs, layers, links := contents(t, s); blobs != 4 || layers != 2 || links != 2 {
		t.Errorf("%d blobs, %d layers, %d links", blobs, layers, links)
	}
	if err := s.Remove(ctx, a.ID); err != nil {
		t.Fatal(err)
	}
	if blobs, layers, links := contents(t, s); blobs != 0 || layers != 0 || links != 0 {
		t.Errorf("%d blobs, %d layers, %d links", blobs, layers, links)
	}
	if err := s.Remove(ctx, a.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

func TestANameOnTwoRecordsBelongsToTheLater(t *testing.T) {
	s := open(t, t.TempDir())
	a := importImage(t, s, "app:1", archive(t, reg("a", "a")))
	old, err := os.ReadFile(s.recordPath(a.ID[7:]))
	if err != nil {
		t.Fatal(err)
	}
	b := importImage(t, s, "app:1", archive(t, reg("b", "b")))
	// As if the machine had stopped between the two writes.
	write(t, s.recordPath(a.ID[7:]), old)
	s.Close()
	s = open(t, s.dir)
	if i, err := s.Get("app:1"); err != nil || i.ID != b.ID {
		t.Errorf("the name means %v, %v", i, err)
	}
	if i, err := s.Get(a.ID); err != nil || len(i.RepoTags) != 0 {
		t.Errorf("the old image is %+v, %v", i, err)
	}
}

func TestPinsProtect(t *testing.T) {
	ctx := context.Background()
	run := t.TempDir()
	with := func(o *Options) { o.RunDir = run }
	s := open(t, t.TempDir(), with)
	a := importImage(t, s, "app:1", archive(t, reg("a", "a")))
	if _, err := s.Use(ctx, "app:1", "container-1"); err != nil {
		t.Fatal(err)
	}
	for _, owner := range []string{"", "../x", ".x", "a/b"} {
		if _, err := s.Use(ctx, "app:1", owner); err == nil {
			t.Errorf("owner %q was taken", owner)
		}
	}
	s.Close()
	s = open(t, s.dir, with)
	if err := s.Remove(ctx, a.ID); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "container-1") {
		t.Errorf("Remove of an image in use: %v", err)
	}
	if _, removed, err := s.Collect(ctx, 1<<40, 0); err != nil || len(removed) != 0 {
		t.Errorf("Collect removed %v, %v", removed, err)
	}
	if pins := s.Pins(); len(pins) != 1 || pins["container-1"] != a.ID || !s.InUse()[a.ID] {
		t.Errorf("pins are %v", pins)
	}
	// Its record lost, it still keeps its layers.
	if err := os.Rename(s.recordPath(a.ID[7:]), filepath.Join(t.TempDir(), "x")); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, s.dir, with)
	if _, err := s.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if _, layers, _ := contents(t, s); layers != 1 {
		t.Error("a layer in use was removed")
	}
	if err := s.Release("container-1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Release("container-1"); err != nil {
		t.Errorf("released twice: %v", err)
	}
	if freed, err := s.Sweep(ctx); err != nil || freed == 0 {
		t.Errorf("freed %d, %v", freed, err)
	}
	if blobs, layers, links := contents(t, s); blobs != 0 || layers != 0 || links != 0 {
		t.Errorf("%d blobs, %d layers, %d links", blobs, layers, links)
	}
}

func TestOldBuiltinLayerIsKeptWhileUsed(t *testing.T) {
	ctx := context.Background()
	run := t.TempDir()
	at := func(identity string) func(*Options) {
		return func(o *Options) {
			o.RunDir = run
			o.Builtins = []Builtin{{Name: "test.local/a:1", Identity: identity, Files: []BuiltinFile{{Path: "f", Mode: 0o644, Content: []byte("x")}}}}
		}
	}
	s := open(t, t.TempDir(), at("old"))
	i, err := s.Use(ctx, "test.local/a:1", "c")
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, s.dir, at("new"))
	if now, err := s.Get("test.local/a:1"); err != nil || now.ID == i.ID {
		t.Errorf("another binary, the same image: %v", err)
	}
	if _, err := s.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(i.LowerDirs()[0], "f")); err != nil {
		t.Error(err)
	}
	if err := s.Release("c"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(i.LowerDirs()[0]); !os.IsNotExist(err) {
		t.Errorf("the old layer is still there: %v", err)
	}
}

func TestCollectTakesTheLongestUnusedFirst(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir())
	var ids []string
	for n := range 4 {
		i := importImage(t, s, fmt.Sprintf("app:%d", n), archive(t, reg("f", noise(uint64(n), 100_000))))
		ids = append(ids, i.ID)
		s.mu.Lock()
		s.images[i.ID[7:]].lastUsed = time.Now().Add(time.Duration(n-10) * time.Hour)
		s.mu.Unlock()
	}
	if _, err := s.Use(ctx, ids[0], "c"); err != nil {
		t.Fatal(err)
	}
	freed, removed, err := s.Collect(ctx, 150_000, 8*time.Hour+30*time.Minute)
	if err != nil || freed < 150_000 || !slices.Equal(removed, []string{ids[1]}) {
		t.Errorf("freed %d, removed %v, %v", freed, removed, err)
	}
	freed, removed, err = s.Collect(ctx, 250_000, 0)
	if err != nil || !slices.Equal(removed, []string{ids[2], ids[3]}) {
		t.Errorf("freed %d, removed %v, %v", freed, removed, err)
	}
	if u, err := s.Usage(); err != nil || u.Images != 1 || u.Bytes < 200_000 || u.Bytes > 400_000 || u.Inodes == 0 || u.DiskTotal < u.DiskAvailable {
		t.Errorf("usage is %+v, %v", u, err)
	}
}

func TestLostLayerIsUnpackedAgain(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir())
	i := importImage(t, s, "app:1", archive(t, reg("a", "a")), archive(t, reg("b", "b")))
	layers, _ := filepath.Glob(filepath.Join(s.dir, "layers/*"))
	for _, l := range layers {
		if err := os.RemoveAll(l); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Use(ctx, i.ID, "c"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(i.LowerDirs()[0], "b")); err != nil {
		t.Error(err)
	}
	blobs, _ := filepath.Glob(filepath.Join(s.dir, "blobs/sha256/*"))
	if err := s.dropLayer(filepath.Base(layers[0])); err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs {
		if "sha256:"+filepath.Base(b) != i.ID {
			os.Remove(b)
		}
	}
	if _, err := s.Use(ctx, i.ID, "c"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("without layer and blob: %v", err)
	}
	if len(s.Pins()) != 0 {
		t.Errorf("a failed Use leaves the pins %v", s.Pins())
	}
}

func TestDamagedRecordIsSetAside(t *testing.T) {
	s := open(t, t.TempDir())
	i := importImage(t, s, "app:1", archive(t, reg("a", "a")))
	s.Close()
	write(t, s.recordPath(i.ID[7:]), []byte("{"))
	s = open(t, s.dir)
	if _, err := s.Get("app:1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("error is %v", err)
	}
	importImage(t, s, "app:1", archive(t, reg("a", "a")))
}

func TestUnfinishedWorkIsCleared(t *testing.T) {
	s := open(t, t.TempDir())
	importImage(t, s, "app:1", archive(t, reg("a", "a")))
	s.Close()
	chain := strings.Repeat("ab", 32)
	for _, d := range []string{"layers/tmp-1/fs", "layers/" + chain + "/fs", "tmp-import-1/x", "blobs/sha256"} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../layers/"+chain+"/fs", filepath.Join(s.dir, "l", shortName(chain))); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"blobs/tmp-1", "blobs/sha256/tmp-1", "images/tmp-1"} {
		write(t, filepath.Join(s.dir, f), nil)
	}
	s = open(t, s.dir)
	if blobs, layers, links := contents(t, s); blobs != 3 || layers != 1 || links != 1 {
		t.Errorf("%d blobs, %d layers, %d links", blobs, layers, links)
	}
	for _, pattern := range []string{"tmp-*", "*/tmp-*", "*/*/tmp-*"} {
		if left, _ := filepath.Glob(filepath.Join(s.dir, pattern)); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	if _, err := s.Use(context.Background(), "app:1", "c"); err != nil {
		t.Error(err)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := Open(Options{Dir: s.dir}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("error is %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	s := open(t, t.TempDir(), func(o *Options) { o.ReserveBytes = 1 << 60 })
	_, err := s.Import(context.Background(), bytes.NewReader(saved(t, "app:1", archive(t, reg("a", "a")))), ImportOptions{})
	if !errors.Is(err, ErrNoSpace) {
		t.Errorf("error is %v", err)
	}
	if blobs, _ := filepath.Glob(filepath.Join(s.dir, "*/tmp-*")); len(blobs) != 0 {
		t.Errorf("left behind: %v", blobs)
	}
}

// Everything at once, for the race detector, and nothing in use is ever lost.
func TestConcurrentUse(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir())
	data := make([][]byte, 4)
	shared := archive(t, reg("shared", "s"))
	for n := range data {
		data[n] = saved(t, fmt.Sprintf("app:%d", n), shared, archive(t, reg("own", fmt.Sprint(n))))
	}
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			owner, name := fmt.Sprintf("c%d", n), fmt.Sprintf("app:%d", n%4)
			for range 15 {
				if _, err := s.Import(ctx, bytes.NewReader(data[n%4]), ImportOptions{}); err != nil {
					t.Error(err)
					return
				}
				i, err := s.Use(ctx, name, owner)
				if errors.Is(err, ErrNotFound) {
					continue // removed by another
				}
				if err != nil {
					t.Error(err)
					return
				}
				for _, l := range i.LowerDirs() {
					if _, err := os.Stat(l); err != nil {
						t.Error(err)
					}
				}
				if got, err := os.ReadFile(filepath.Join(i.LowerDirs()[0], "own")); err != nil || string(got) != fmt.Sprint(n%4) {
					t.Errorf("content is %q, %v", got, err)
				}
				if err := s.Release(owner); err != nil {
					t.Error(err)
				}
				if n%2 == 0 {
					if err := s.Remove(ctx, name); err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrInUse) {
						t.Error(err)
					}
				} else if _, _, err := s.Collect(ctx, 1, time.Hour); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
