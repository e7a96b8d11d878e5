package compose

import (
	"os"
	"path/filepath"
	"testing"
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
