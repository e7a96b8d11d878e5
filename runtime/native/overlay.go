package native

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sagong/runtime"
)

// mountRoot makes the mount of a root file system, attached nowhere: it
// vanishes with the last namespace that has it, so nothing is left to unmount
// on the host. upper and work are the writable layer; without them the mount
// is read-only.
func mountRoot(root runtime.Rootfs, upper, work, scratch string) (*os.File, error) {
	if len(root.Layers) == 0 {
		if !filepath.IsAbs(root.Path) {
			return nil, fmt.Errorf("root file system has neither layers nor an absolute path")
		}
		return cloneTree(root.Path, unix.MountAttr{Propagation: unix.MS_PRIVATE}, upper == "")
	}
	if upper == "" && len(root.Layers) == 1 {
		return cloneTree(root.Layers[0], unix.MountAttr{Propagation: unix.MS_PRIVATE}, true)
	}
	f, err := overlayNew(root.Layers, upper, work)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// Before Linux 6.8 layers cannot be given one by one.
		f, err = overlayOld(root.Layers, upper, work, scratch)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot mount overlay of %d layers: %w", len(root.Layers), err)
	}
	return f, nil
}

func cloneTree(path string, attr unix.MountAttr, readOnly bool) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", path, err)
	}
	if readOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot mount %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// overlayNew gives the layers to the kernel one by one: any number of them, of
// any length of path.
func overlayNew(layers []string, upper, work string) (*os.File, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	dir := func(key, path string) error {
		if len(path) > 255 { // the limit of one option
			fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return &os.PathError{Op: "open", Path: path, Err: err}
			}
			defer unix.Close(fd)
			path = "/proc/self/fd/" + strconv.Itoa(fd)
		}
		if err := unix.FsconfigSetString(fs, key, path); err != nil {
			return fmt.Errorf("%s=%s: %w", key, path, err)
		}
		return nil
	}
	for i := len(layers) - 1; i >= 0; i-- {
		if err := dir("lowerdir+", layers[i]); err != nil {
			return nil, err
		}
	}
	if upper != "" {
		if err := dir("upperdir", upper); err != nil {
			return nil, err
		}
		if err := dir("workdir", work); err != nil {
			return nil, err
		}
		if err := unix.FsconfigSetFlag(fs, "volatile"); err != nil {
			return nil, fmt.Errorf("volatile: %w", err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, withKernelMessage(fs, err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	return os.NewFile(uintptr(fd), "rootfs"), nil
}

// withKernelMessage adds what the kernel says about a refused file system.
func withKernelMessage(fs int, err error) error {
	var buf [512]byte
	if n, e := unix.Read(fs, buf[:]); e == nil && n > 0 {
		return fmt.Errorf("%w (%s)", err, strings.TrimSpace(string(buf[:n])))
	}
	return err
}

// overlayOld mounts with all options in one page, with layers named by
// descriptor to save room, then takes the mount off the host's tree.
func overlayOld(layers []string, upper, work, scratch string) (*os.File, error) {
	names := make([]string, 0, len(layers))
	for i := len(layers) - 1; i >= 0; i-- {
		fd, err := unix.Open(layers[i], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: layers[i], Err: err}
		}
		defer unix.Close(fd)
		names = append(names, "/proc/self/fd/"+strconv.Itoa(fd))
	}
	opts := "lowerdir=" + strings.Join(names, ":")
	if upper != "" {
		opts += ",upperdir=" + upper + ",workdir=" + work + ",volatile"
	}
	if len(opts) >= os.Getpagesize() {
		return nil, fmt.Errorf("%d layers are more than this kernel can mount", len(layers))
	}
	point, err := os.MkdirTemp(scratch, "overlay-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(point)
	if err := unix.Mount("overlay", point, "overlay", 0, opts); err != nil {
		return nil, os.NewSyscallError("mount", err)
	}
	defer unix.Unmount(point, unix.MNT_DETACH)
	return cloneTree(point, unix.MountAttr{Propagation: unix.MS_PRIVATE}, false)
}
