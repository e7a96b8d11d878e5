package native

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// leanNamespace makes a mount namespace that holds nothing but a small
// read-only root with /proc, an empty /shm and an empty /r. Shims live in
// copies of it: cloning a container copies the shim's mount table, and the
// host's can have tens of thousands of mounts.
func leanNamespace(scratch string) (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result)
	var run func()
	run = func() {
		// The thread changes its namespace for good, so it is never unlocked and
		// ends with this goroutine.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// All but the first thread, which cannot end and is what /proc/self
			// shows. As long as it is held here, another runs the second try.
			defer runtime.UnlockOSThread()
			again := make(chan struct{})
			go func() {
				defer close(again)
				run()
			}()
			<-again
			return
		}
		f, err := enterLean(scratch)
		done <- result{f, err}
	}
	go run()
	r := <-done
	if r.err != nil {
		return nil, fmt.Errorf("cannot make the mount namespace of shims: %w", r.err)
	}
	return r.f, nil
}

func enterLean(scratch string) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, os.NewSyscallError("mount private", err)
	}
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return nil, err
	}
	if err := unix.Mount("sagong", scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755,size=64k"); err != nil {
		return nil, os.NewSyscallError("mount tmpfs", err)
	}
	for _, d := range []string{"/proc", "/shm", "/r"} {
		if err := os.Mkdir(scratch+d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := unix.Mount("/proc", scratch+"/proc", "", unix.MS_BIND, ""); err != nil {
		return nil, os.NewSyscallError("bind /proc", err)
	}
	if err := unix.Chdir(scratch); err != nil {
		return nil, err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return nil, os.NewSyscallError("pivot_root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return nil, os.NewSyscallError("umount", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return nil, os.NewSyscallError("remount", err)
	}
	return os.Open("/proc/thread-self/ns/mnt")
}

// readOnlySelf opens this process's executable through a read-only mount of
// its own. A process of a container that gets hold of /proc/<shim>/exe or of a
// child that has not executed yet then cannot open it for writing and so
// cannot replace the binary on the host (the class of CVE-2019-5736).
func readOnlySelf() (*os.File, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, "/proc/self/exe", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot mount own executable: %w", err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return nil, fmt.Errorf("cannot make own executable read-only: %w", err)
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", tree), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open own executable: %w", err)
	}
	return os.NewFile(uintptr(fd), "exe"), nil
}
