// Package process names a process so that no other can be mistaken for it, and
// ends exactly that one.
package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ID is a process: its pid, and its start time in clock ticks since boot, which
// no later process with the same pid shares.
type ID struct {
	PID   int
	Start uint64
}

// Self is the calling process.
func Self() (ID, error) { return Of(os.Getpid()) }

// Of names the process that has a pid now.
func Of(pid int) (ID, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ID{}, fmt.Errorf("cannot find process %d: %w", pid, err)
	}
	// The command's name may hold anything, but not the last ')'.
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return ID{}, fmt.Errorf("cannot read the start of process %d", pid)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return ID{}, fmt.Errorf("process %d has ended", pid)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return ID{}, fmt.Errorf("cannot read the start of process %d: %w", pid, err)
	}
	return ID{pid, start}, nil
}

// Alive tells whether the process still runs.
func (id ID) Alive() bool {
	now, err := Of(id.PID)
	return err == nil && now == id
}

// Save writes the ID to a file.
func (id ID) Save(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("cannot write %s: %w", file, err)
	}
	// At once: others read it at any time.
	tmp := file + ".tmp"
	err := os.WriteFile(tmp, fmt.Appendf(nil, "%d %d\n", id.PID, id.Start), 0o644)
	if err == nil {
		err = os.Rename(tmp, file)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", file, err)
	}
	return nil
}

// Load reads a saved ID; ok is false when there is none, or that process is gone.
func Load(file string) (id ID, ok bool, err error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return ID{}, false, nil
	}
	if err != nil {
		return ID{}, false, fmt.Errorf("cannot read %s: %w", file, err)
	}
	if _, err := fmt.Sscanf(string(data), "%d %d", &id.PID, &id.Start); err != nil {
		return ID{}, false, fmt.Errorf("cannot read %s: %w", file, err)
	}
	return id, id.Alive(), nil
}

// Stop sends a signal and waits until the process has ended, and kills it when
// grace passes first. It returns nil when the process is gone already.
func (id ID) Stop(ctx context.Context, sig unix.Signal, grace time.Duration) error {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot stop process %d: %w", id.PID, err)
	}
	defer unix.Close(fd)
	if !id.Alive() {
		return nil
	}
	if err := signal(fd, sig); err != nil {
		return fmt.Errorf("cannot stop process %d: %w", id.PID, err)
	}
	if done, err := wait(ctx, fd, grace); done || err != nil {
		return err
	}
	if err := signal(fd, unix.SIGKILL); err != nil {
		return fmt.Errorf("cannot kill process %d: %w", id.PID, err)
	}
	done, err := wait(ctx, fd, 10*time.Second)
	if err == nil && !done {
		err = fmt.Errorf("process %d does not end after SIGKILL", id.PID)
	}
	return err
}

// Wait waits until the process has ended, at most limit; false when it has not.
func (id ID) Wait(ctx context.Context, limit time.Duration) (bool, error) {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot wait for process %d: %w", id.PID, err)
	}
	defer unix.Close(fd)
	if !id.Alive() {
		return true, nil
	}
	return wait(ctx, fd, limit)
}

func signal(fd int, sig unix.Signal) error {
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// wait sleeps in the kernel until the process of a pidfd ends.
func wait(ctx context.Context, fd int, limit time.Duration) (bool, error) {
	deadline := time.Now().Add(limit)
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return false, nil
		}
		// In slices, so that a cancelled ctx is heard within a moment.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(min(left, 200*time.Millisecond).Milliseconds())+1)
		if n > 0 {
			return true, nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, fmt.Errorf("cannot wait for a process: %w", err)
		}
	}
}
