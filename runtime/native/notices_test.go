package native

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sagong/lib/cgroup"
)

func TestNotices(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.controllers"), []byte("cpu memory\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := cgroup.Open(cgroup.Layout{Version: 2, Unified: dir}, "/x")
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join((&Runtime{tree: tree}).Notices(), "\n")
	if !strings.Contains(got, "no cgroup controller for cpuset, pids:") {
		t.Errorf("%q", got)
	}
}
