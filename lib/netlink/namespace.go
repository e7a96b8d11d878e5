package netlink

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// InNamespace runs f on a thread that is in the network namespace at path.
// Sockets that f opens, processes that it starts and files below
// /proc/thread-self/net and /proc/sys/net that it opens belong to that
// namespace; goroutines that f starts do not. f must not change the thread's
// namespace itself.
func InNamespace(path string, f func() error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot open the network namespace: %w", err)
	}
	defer file.Close()
	return inNamespace(file, f)
}

func inNamespace(ns *os.File, f func() error) error {
	done := make(chan error, 1)
	// A goroutine of its own: should the way back fail, it ends locked, and
	// the runtime ends its thread instead of lending it to others.
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- fmt.Errorf("cannot open the thread's network namespace: %w", err)
			return
		}
		defer home.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("cannot enter the network namespace %s: %w", ns.Name(), err)
			return
		}
		err = f()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// DialIn opens a socket in the network namespace at path.
func DialIn(path string, protocol int) (c *Conn, err error) {
	err = InNamespace(path, func() error {
		c, err = Dial(protocol)
		return err
	})
	return c, err
}

// CreateNamespace makes a new network namespace and binds it to path, which
// must not exist; the namespace lives until DeleteNamespace.
func CreateNamespace(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cannot make the directory of a network namespace: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("cannot make the file of a network namespace: %w", err)
	}
	file.Close()
	done := make(chan error, 1)
	go func() {
		// The thread stays in the new namespace and ends with this goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	}()
	if err := <-done; err != nil {
		os.Remove(path)
		return fmt.Errorf("cannot make the network namespace %s: %w", path, err)
	}
	return nil
}

// DeleteNamespace unbinds and removes path. The kernel ends the namespace, and
// the interfaces in it, when the last process has left. A path that does not
// exist is not an error.
func DeleteNamespace(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot unmount the network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove the file of a network namespace: %w", err)
	}
	return nil
}
