package compose

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sagong/config"
	"sagong/lib/progress"
)

// A machine that could not join is as it was.
func TestFailedJoinLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	c := config.Config{Server: "http://192.0.2.1:6443", DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run")}
	join := func() {
		t.Helper()
		err := RunAgent(t.Context(), c, slog.New(slog.DiscardHandler), progress.NewReporter(io.Discard, time.Now))
		if err == nil || !strings.Contains(err.Error(), "cannot join: --server") {
			t.Fatalf("it joined: %v", err)
		}
	}
	join()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// What was there before is not its own.
	for _, d := range []string{c.DataDir, c.RunDir} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	kept := filepath.Join(c.DataDir, "kept")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	join()
	for _, path := range []string{kept, c.RunDir} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(PIDFile(c)); !os.IsNotExist(err) {
		t.Errorf("the process is still named: %v", err)
	}
}
