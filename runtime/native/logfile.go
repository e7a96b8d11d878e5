package native

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// openLog opens a log to be written at its end.
func openLog(path string) (int, error) {
	if path == "" {
		return -1, nil
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_CLOEXEC, 0o640)
	if err != nil {
		return -1, fmt.Errorf("cannot open the log: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	return fd, nil
}

// nextLog is where a log begins before it gets its name.
func nextLog(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".next")
}

// ReopenLog makes the shim write to a new file. It gets its name only when the
// shim uses it, so that whoever follows the log and sees a new file may read the
// old one to its end and miss nothing.
func (r *Runtime) ReopenLog(ctx context.Context, id string) error {
	c, err := r.running(id)
	if err != nil {
		return fmt.Errorf("cannot reopen the log: %w", err)
	}
	path := c.spec.LogPath
	if path == "" {
		return nil
	}
	next := path
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		next = nextLog(path)
	}
	fd, err := openLog(next)
	if err != nil {
		return err
	}
	q := newRequest(reqReopen, id)
	defer q.close()
	q.Log = q.own(fd)
	if _, err := ask(ctx, c.sandbox.run, q); err != nil {
		if next != path && ctx.Err() == nil {
			os.Remove(next)
		}
		return fmt.Errorf("cannot reopen the log of container %s: %w", id, err)
	}
	return nameLog(path)
}

// nameLog gives a log its name, if it waits for one.
func nameLog(path string) error {
	if path == "" {
		return nil
	}
	err := unix.Renameat2(unix.AT_FDCWD, nextLog(path), unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL { // a file system without the flag
		if _, serr := os.Lstat(path); errors.Is(serr, fs.ErrNotExist) {
			err = unix.Rename(nextLog(path), path)
		}
	}
	if err == nil || err == unix.ENOENT {
		return nil
	}
	return fmt.Errorf("cannot name the log: %w", &os.LinkError{Op: "rename", Old: nextLog(path), New: path, Err: err})
}
