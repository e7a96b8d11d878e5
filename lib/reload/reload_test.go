package reload_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sagong/lib/reload"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	path, linked := filepath.Join(dir, "a"), filepath.Join(dir, "link")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	told := make(chan string, 100)
	tell := func(_ context.Context, data []byte, err error) {
		if err != nil {
			t.Error(err)
		}
		told <- string(data)
	}
	write(path, "changed before the start")
	write(filepath.Join(dir, "target"), "one")
	if err := os.Symlink("target", linked); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- reload.Run(ctx, []*reload.File{{Path: path, Known: []byte("as read"), Changed: tell}, {Path: linked, Known: []byte("one"), Changed: tell}})
	}()
	want := func(text string) {
		t.Helper()
		// A file that is written in place may be seen empty.
		for got := ""; got != text; {
			if got = <-told; got != "" && got != text {
				t.Fatalf("told of %q, want %q", got, text)
			}
		}
	}
	want("changed before the start")
	write(path, "in place")
	want("in place")
	write(path+".new", "replaced")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	want("replaced")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(dir, "target2"), "two")
	if err := os.Symlink("target2", linked+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(linked+".new", linked); err != nil {
		t.Fatal(err)
	}
	want("two")
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
