package compose

import (
	"path/filepath"
	"strings"
	"testing"

	"sagong/config"
	"sagong/lib/process"
)

// A second server with a data directory of its own must not take the first
// one's name away.
func TestOneProcessARunDirectory(t *testing.T) {
	c := config.Config{RunDir: filepath.Join(t.TempDir(), "run")}
	first, err := claimRunDir(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claimRunDir(c); err == nil || !strings.Contains(err.Error(), "runs a cluster there; give this one another --name") {
		t.Errorf("a second claim: %v", err)
	}
	self, _ := process.Self()
	if id, running, err := process.Load(PIDFile(c)); err != nil || !running || id != self {
		t.Errorf("after a refused claim the directory names %v, %v, %v", id, running, err)
	}
	first.release()
	if _, running, _ := process.Load(PIDFile(c)); running {
		t.Error("a directory that was given back names a process")
	}
	again, err := claimRunDir(c)
	if err != nil {
		t.Fatal(err)
	}
	again.release()
}
