package compose

import (
	"os"
	"path/filepath"
	"testing"

	"sagong/lib/process"
)

func TestSaveHostLimits(t *testing.T) {
	file := filepath.Join(t.TempDir(), "host-limits")
	if err := saveHostLimits(file, nil); err != nil {
		t.Fatalf("nothing was raised: %v", err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Fatalf("a file was written for nothing: %v", err)
	}
	if err := saveHostLimits(file, map[string]string{"kernel/pid_max": "32768"}); err != nil {
		t.Fatal(err)
	}
	// A later start must not take its own raised values for the machine's.
	if err := saveHostLimits(file, map[string]string{"kernel/pid_max": "4194304"}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "kernel/pid_max 32768\n" {
		t.Fatalf("%q, %v", got, err)
	}
}

// While another cluster runs, the limits stay and their former values move into
// its record.
func TestHostLimitsAreHandedOver(t *testing.T) {
	ours, theirs := filepath.Join(t.TempDir(), "host-limits"), t.TempDir()
	if err := os.WriteFile(ours, []byte("kernel/pid_max 32768\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(theirs, "node"), 0o755); err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(theirs, "server.pid")
	if err := (process.ID{PID: 1 << 30, Start: 1}).Save(pidFile); err != nil {
		t.Fatal(err)
	}
	if handed, err := handOverHostLimits(ours, []string{pidFile}); handed || err != nil {
		t.Fatalf("handed to a cluster that does not run: %v %v", handed, err)
	}
	self, err := process.Self()
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Save(pidFile); err != nil {
		t.Fatal(err)
	}
	without := filepath.Join(t.TempDir(), "server.pid") // of a server that has no node
	if err := self.Save(without); err != nil {
		t.Fatal(err)
	}
	if handed, err := handOverHostLimits(ours, []string{without, pidFile}); !handed || err != nil {
		t.Fatal(handed, err)
	}
	if got, err := os.ReadFile(filepath.Join(theirs, "node", "host-limits")); err != nil || string(got) != "kernel/pid_max 32768\n" {
		t.Errorf("their record: %q %v", got, err)
	}
}
