package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Kill kills every process of a cgroup and its children and waits until they
// have ended, for at most the given time. A cgroup that does not exist is
// success.
func (t *Tree) Kill(path string, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	for {
		pids, err := t.Procs(path)
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cannot kill the processes of cgroup %s: %d left after %v", path, len(pids), wait)
		}
		if err := t.killOnce(path, pids, deadline); err != nil {
			return err
		}
	}
}

func (t *Tree) killOnce(path string, pids []int, deadline time.Time) error {
	fds := make([]unix.PollFd, 0, len(pids))
	defer func() {
		for _, f := range fds {
			unix.Close(int(f.Fd))
		}
	}()
	killed := t.layout.Version == 2 &&
		writeFile(filepath.Join(t.hierarchies[0].dir(path), "cgroup.kill"), "1") == nil
	if !killed {
		// Frozen tasks neither fork nor end, so none escapes and no pid is
		// reused between reading and killing.
		if err := t.Freeze(path, true); err == nil {
			defer t.Freeze(path, false) //nolint:errcheck // thawed below; this is for early returns
			if pids2, err := t.Procs(path); err == nil {
				pids = pids2
			}
		}
	}
	for _, p := range pids {
		fd, err := unix.PidfdOpen(p, 0)
		if err != nil {
			continue // has ended
		}
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		if !killed {
			if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("cannot kill process %d: %w", p, err)
			}
		}
	}
	if !killed {
		_ = t.Freeze(path, false)
	}
	for _, f := range fds {
		one := []unix.PollFd{f}
		for {
			left := time.Until(deadline)
			if left <= 0 {
				return nil
			}
			_, err := unix.Poll(one, int(left/time.Millisecond)+1)
			if err != unix.EINTR {
				break
			}
		}
	}
	return nil
}

// Freeze stops or continues all tasks of a cgroup. On version 1 stopping waits
// until they have stopped.
func (t *Tree) Freeze(path string, frozen bool) error {
	if t.layout.Version == 2 {
		v := "0"
		if frozen {
			v = "1"
		}
		return writeFile(filepath.Join(t.hierarchies[0].dir(path), "cgroup.freeze"), v)
	}
	if !t.Has("freezer") {
		return fmt.Errorf("cannot freeze cgroup: %w", ErrNoController)
	}
	file := filepath.Join(t.v1dir("freezer", path), "freezer.state")
	if !frozen {
		return writeFile(file, "THAWED")
	}
	if err := writeFile(file, "FROZEN"); err != nil {
		return err
	}
	// Reading completes the transition; a task in an uninterruptible wait may
	// hold it up, and then killing goes on without.
	for range 20 {
		var buf [16]byte
		if s := readSmall(file, buf[:]); string(s) == "FROZEN\n" {
			return nil
		}
		time.Sleep(500 * time.Microsecond)
	}
	return nil
}
