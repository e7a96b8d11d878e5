package native

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// adopt learns what an earlier process left, running or not.
func (r *Runtime) adopt() error {
	uids, err := subdirs(r.dirs.pods())
	if err != nil {
		return fmt.Errorf("cannot adopt sandboxes: %w", err)
	}
	for _, uid := range uids {
		if err := r.adoptSandbox(uid); err != nil {
			return fmt.Errorf("cannot adopt sandbox %s: %w", uid, err)
		}
	}
	// What was being made or removed when the server ended has no description.
	runs, err := subdirs(filepath.Join(r.dirs.run, "p"))
	if err != nil {
		return fmt.Errorf("cannot adopt sandboxes: %w", err)
	}
	for _, uid := range runs {
		if !slices.Contains(uids, uid) {
			if err := r.sweep(uid); err != nil {
				return fmt.Errorf("cannot clean up sandbox %s: %w", uid, err)
			}
		}
	}
	return nil
}

// sweep removes a sandbox of which only the run directory is left.
func (r *Runtime) sweep(uid string) error {
	dir := r.dirs.podRun(uid)
	var shim process
	if f, err := readShimFile(dir); err == nil && f.Boot == r.bootID {
		shim = f.process
	}
	if err := endShim(dir, shim); err != nil {
		return err
	}
	if err := unpin(filepath.Join(dir, "ns", "net")); err != nil {
		return err
	}
	return removeTree(dir)
}

func (r *Runtime) adoptSandbox(uid string) error {
	var pod podFile
	err := readJSON(filepath.Join(r.dirs.podData(uid), "pod.json"), &pod)
	if err != nil || pod.Sandbox.UID != uid {
		// It was written when the machine or the server failed: nothing of it
		// ever ran.
		if err := r.sweep(uid); err != nil {
			return err
		}
		return removeTree(r.dirs.podData(uid))
	}
	s := &sandbox{spec: pod.Sandbox, created: pod.CreatedAt, run: r.dirs.podRun(uid)}
	if f, err := readShimFile(s.run); err == nil && f.Boot == r.bootID {
		s.shim = f.process
		pidfd, err := unix.PidfdOpen(f.PID, 0)
		switch {
		case err == nil && f.alive():
			// With one that it cannot talk to, the pod can only be made anew.
			s.ready = f.Protocol == protocol
			if !s.ready {
				r.log.Warn("a pod's shim is of another version and will be replaced with its containers", "uid", uid, "protocol", f.Protocol)
			}
			if err := r.watch.add(pidfd, uid); err != nil {
				return err
			}
		case err == nil:
			unix.Close(pidfd)
		case !errors.Is(err, unix.ESRCH):
			return err
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.log.Warn("unreadable record of a shim", "uid", uid, "err", err)
	}
	r.mu.Lock()
	r.sandboxes[uid] = s
	r.mu.Unlock()
	ids, err := subdirs(filepath.Join(r.dirs.podData(uid), "c"))
	if err != nil {
		return err
	}
	for _, id := range ids {
		dir := r.dirs.containerData(uid, id)
		var file containerFile
		if err := readJSON(filepath.Join(dir, "config.json"), &file); err != nil || file.Container.ID != id {
			if err := removeTree(dir); err != nil {
				return err
			}
			continue
		}
		spec, err := r.sealer.open(file)
		switch {
		case file.Sealed == nil: // by a version that sealed nothing
			if err := r.describe(dir, file); err != nil {
				return err
			}
		case err != nil && s.ready:
			r.log.Error("the environment of a running container is lost: commands that are executed in it have none", "container", id, "err", err)
		}
		c := newContainer(s, spec, file.CreatedAt)
		r.mu.Lock()
		r.containers[id] = c
		s.containers = append(s.containers, c)
		r.mu.Unlock()
		r.settle(c)
		// A server may have been killed between the two steps of ReopenLog.
		if err := nameLog(file.Container.LogPath); err != nil {
			r.log.Warn("a log has no name", "container", id, "err", err)
		}
	}
	slices.SortFunc(s.containers, func(a, b *container) int { return a.status.CreatedAt.Compare(b.status.CreatedAt) })
	return nil
}
