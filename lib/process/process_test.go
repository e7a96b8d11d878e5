package process

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestStopEndsExactlyThatProcess(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan error, 1)
	go func() { reaped <- cmd.Wait() }()
	id, err := Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pid")
	if err := id.Save(file); err != nil {
		t.Fatal(err)
	}
	if got, running, err := Load(file); err != nil || !running || got != id {
		t.Fatal(got, running, err)
	}
	// The same pid, started at another time, is another process: left alone.
	other := ID{id.PID, id.Start + 1}
	if err := other.Stop(t.Context(), unix.SIGKILL, time.Second); err != nil || !id.Alive() {
		t.Fatalf("stopping a namesake: %v, alive %v", err, id.Alive())
	}
	if gone, err := id.Wait(t.Context(), time.Millisecond); gone || err != nil {
		t.Fatal(gone, err)
	}
	if err := id.Stop(t.Context(), unix.SIGTERM, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	<-reaped
	if id.Alive() {
		t.Error("alive after Stop")
	}
	if _, running, err := Load(file); err != nil || running {
		t.Error(running, err)
	}
	if err := id.Stop(t.Context(), unix.SIGTERM, time.Second); err != nil {
		t.Errorf("stopping what has ended: %v", err)
	}
}

func TestStopKillsWhatDoesNotListen(t *testing.T) {
	cmd := exec.Command("sh", "-c", "trap '' TERM; echo ready; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	id, err := Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	go func() { _ = cmd.Wait(); close(reaped) }()
	if err := id.Stop(t.Context(), unix.SIGTERM, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	<-reaped
}
