package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// open opens a store that is closed with the test.
func open(t testing.TB, dir string, change ...func(*Options)) *Store {
	t.Helper()
	o := Options{Dir: dir}
	for _, c := range change {
		c(&o)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func withHello(t testing.TB) func(*Options) {
	return func(o *Options) {
		list, err := Hello()
		if err != nil {
			t.Fatal(err)
		}
		o.Builtins = list
	}
}

func TestBuiltinIsMadeOnFirstUse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, withHello(t))
	ctx := context.Background()
	v1, err := s.Get("sagong.local/hello:v1")
	if err != nil {
		t.Fatal(err)
	}
	if !v1.Builtin || v1.Config.Entrypoint[0] != "/hello" || len(v1.RepoDigests) != 1 || v1.Size == 0 {
		t.Errorf("image is %+v", v1)
	}
	if list, _ := os.ReadDir(filepath.Join(dir, "layers")); len(list) != 0 {
		t.Errorf("layers before first use: %v", list)
	}
	if got, err := s.Pull(ctx, "sagong.local/hello:v1", PullOptions{}); err != nil || got.ID != v1.ID {
		t.Errorf("Pull gives %v, %v", got, err)
	}
	if _, err := s.Pull(ctx, "sagong.local/hello:v3", PullOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("Pull of an unknown version: %v", err)
	}
	began := time.Now()
	if _, err := s.Use(ctx, v1.ID, "c1"); err != nil {
		t.Fatal(err)
	}
	t.Logf("first use took %s for %d bytes", time.Since(began), v1.Size)
	if _, err := s.Use(ctx, "sagong.local/hello:v2", "c2"); err != nil {
		t.Fatal(err)
	}
	if list, _ := os.ReadDir(filepath.Join(dir, "layers")); len(list) != 1 {
		t.Errorf("the versions share one layer, but there are %v", list)
	}
	lower := v1.LowerDirs()
	if len(lower) != 1 {
		t.Fatalf("lower directories are %v", lower)
	}
	info, err := os.Stat(filepath.Join(lower[0], "tmp"))
	if err != nil || info.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		t.Errorf("tmp is %v, %v", info.Mode(), err)
	}
	want, _ := os.ReadFile("/proc/self/exe")
	if got, err := os.ReadFile(filepath.Join(lower[0], "bin/tar")); err != nil || string(got) != string(want) {
		t.Errorf("the binary differs: %d bytes, %v", len(got), err)
	}
	if err := s.Remove(ctx, v1.ID); !errors.Is(err, ErrBuiltin) {
		t.Errorf("Remove: %v", err)
	}
	if err := s.Tag(v1.ID, "my:1"); !errors.Is(err, ErrBuiltin) {
		t.Errorf("Tag: %v", err)
	}
}

func TestUnsyncedLayerOfAnotherBootIsDropped(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, withHello(t))
	i, err := s.Use(context.Background(), "sagong.local/hello:v1", "c1")
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	layers, _ := filepath.Glob(filepath.Join(dir, "layers/*/done"))
	if err := os.WriteFile(layers[0], []byte(`{"boot":"another"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, withHello(t))
	if _, err := os.Stat(i.LowerDirs()[0]); !os.IsNotExist(err) {
		t.Errorf("the layer is still there: %v", err)
	}
	if _, err := s.Use(context.Background(), "sagong.local/hello:v1", "c1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(i.LowerDirs()[0], "hello")); err != nil {
		t.Error(err)
	}
}
