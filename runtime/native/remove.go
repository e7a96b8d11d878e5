package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sagong/runtime"
)

// RemoveSandbox kills and removes all of a pod.
func (r *Runtime) RemoveSandbox(ctx context.Context, uid string) error {
	if err := checkID("pod UID", uid); err != nil {
		return fmt.Errorf("cannot remove sandbox: %w", err)
	}
	r.mu.Lock()
	s := r.sandboxes[uid]
	if s == nil {
		r.mu.Unlock()
		return nil
	}
	s.removing = true
	r.mu.Unlock()
	s.op.Lock()
	defer s.op.Unlock()
	if err := r.removeSandbox(s); err != nil {
		return fmt.Errorf("cannot remove sandbox %s: %w", uid, err)
	}
	return nil
}

// removeSandbox goes on after errors, so that one thing left behind is not ten.
// The description goes last: as long as anything is left it is found again.
func (r *Runtime) removeSandbox(s *sandbox) error {
	r.mu.Lock()
	s.removing, s.ready = true, false
	shim := s.shim
	r.mu.Unlock()
	var errs []error
	keep := func(err error) { errs = append(errs, err) }
	keep(endShim(s.run, shim))
	if s.spec.CgroupParent != "" {
		if r.tree.Exists(s.spec.CgroupParent) {
			keep(r.tree.Kill(s.spec.CgroupParent, 10*time.Second))
		}
		keep(r.tree.Remove(s.spec.CgroupParent))
	}
	// Exits recorded by the shim just now.
	r.mu.RLock()
	containers := slices.Clone(s.containers)
	r.mu.RUnlock()
	for _, c := range containers {
		r.settle(c)
	}
	keep(unpin(s.netns()))
	if errors.Join(errs...) == nil {
		keep(removeTree(s.run))
	}
	if errors.Join(errs...) == nil {
		keep(removeTree(r.dirs.podData(s.spec.UID)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range s.containers {
		delete(r.containers, c.spec.ID)
		r.emit(runtime.EventRemoved, s.spec.UID, c.status)
	}
	if r.sandboxes[s.spec.UID] == s {
		delete(r.sandboxes, s.spec.UID)
	}
	return nil
}

// endShim ends the shim of a sandbox. One that was started but not recorded,
// because the server was killed in between, is found by its socket.
func endShim(dir string, p process) error {
	if p.alive() {
		return stopShim(dir, p)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := ask(ctx, dir, newRequest(reqShutdown, ""))
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the shim of %s does not answer", dir)
	}
	return nil // nobody listens
}

// stopShim asks the shim to kill its containers and end, and kills it when it
// does not.
func stopShim(dir string, p process) error {
	pidfd, err := unix.PidfdOpen(p.PID, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	if !p.alive() { // the number was used again before it was opened
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := ask(ctx, dir, newRequest(reqShutdown, "")); err != nil {
		if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
			return fmt.Errorf("cannot kill the shim: %w", err)
		}
	}
	return waitPidfd(pidfd, 10*time.Second)
}

// waitPidfd waits until a process has ended.
func waitPidfd(pidfd int, wait time.Duration) error {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	deadline := time.Now().Add(wait)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("a process has not ended after %v", wait)
		}
		n, err := unix.Poll(fds, int(left/time.Millisecond)+1)
		if n > 0 {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
	}
}

// unpin removes the mount that pins a namespace.
func unpin(path string) error {
	if path == "" {
		return nil
	}
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err == unix.EINVAL || err == unix.ENOENT {
			return nil // not a mount, or no longer
		}
		if err != nil {
			return &os.PathError{Op: "umount", Path: path, Err: err}
		}
	}
}

// removeTree removes a directory with all it holds, and never crosses into
// another mount: a bind that could not be unmounted must not cost its source.
func removeTree(dir string) error {
	parent, err := unix.Open(filepath.Dir(dir), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Dir(dir), Err: err}
	}
	defer unix.Close(parent)
	return removeAt(parent, filepath.Base(dir), dir)
}

// emptyTree removes what is in a directory, but not the directory.
func emptyTree(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}
	var errs []error
	for _, n := range names {
		errs = append(errs, removeTree(filepath.Join(dir, n.Name())))
	}
	return errors.Join(errs...)
}

func removeAt(parent int, name, full string) error {
	err := unix.Unlinkat(parent, name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR && err != unix.EPERM {
		return &os.PathError{Op: "remove", Path: full, Err: err}
	}
	if err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); err == nil || err == unix.ENOENT {
		return nil
	}
	fd, err := unix.Openat2(parent, name, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_BENEATH})
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "remove", Path: full, Err: err}
	}
	d := os.NewFile(uintptr(fd), full)
	defer d.Close()
	for {
		names, err := d.Readdirnames(512)
		for _, n := range names {
			if err := removeAt(fd, n, filepath.Join(full, n)); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		// Removing while reading may skip entries.
		if _, err := d.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	if err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "remove", Path: full, Err: err}
	}
	return nil
}
