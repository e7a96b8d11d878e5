package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"sagong/kinds/storage"
	"sagong/lib/ext4"
	"sagong/lib/loop"
)

// growth is how much larger, in bytes, a volume must become to be worth it: file
// systems end where their last group does.
const growth = 8 * storage.MiB

// growOffline enlarges a file system that is not mounted.
func (l *LocalDisk) growOffline(handle string, f *os.File, total int64) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() < total {
		if err := f.Truncate(total); err != nil {
			return err
		}
	}
	err = ext4.Grow(f, total)
	if !errors.Is(err, ext4.ErrNotClean) {
		return err
	}
	// The machine went down with it. To mount it once replays its journal.
	if err := l.briefly(handle, f, func(string) error { return nil }); err != nil {
		return err
	}
	return ext4.Grow(f, total)
}

// briefly mounts a volume for the time of f, beside whoever has it mounted.
func (l *LocalDisk) briefly(handle string, file *os.File, f func(dir string) error) (err error) {
	d, err := l.attached(handle, file)
	if err == nil && d == nil {
		d, err = l.attach(handle, file)
	}
	if err != nil {
		return err
	}
	defer d.Close()
	dir, err := os.MkdirTemp(l.Dir, "mount-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Mount(d.Path(), dir, "ext4", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH)) }()
	return f(dir)
}

// resizeFS is EXT4_IOC_RESIZE_FS.
const resizeFS = 0x40086610

// Grow enlarges a volume to size bytes. One that is not there needs nothing: it
// will be made with that size. It returns ErrInUse for a volume that is mounted
// where the kernel does not let this process enlarge it.
func (l *LocalDisk) Grow(handle string, size int64) error {
	image, err := l.path(handle, "image")
	if err != nil {
		return err
	}
	defer l.lock(handle)()
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot open volume %s: %w", handle, err)
	}
	defer f.Close()
	total := ext4.ImageSize(size)
	d, err := l.attached(handle, f)
	if err != nil {
		return err
	}
	if d == nil {
		err = l.growOffline(handle, f, total)
	} else {
		defer d.Close()
		err = l.growOnline(handle, f, d, total)
	}
	if err != nil {
		return fmt.Errorf("cannot enlarge volume %s: %w", handle, err)
	}
	return nil
}

func (l *LocalDisk) growOnline(handle string, f *os.File, d *loop.Device, total int64) error {
	if have, err := ext4.Size(f); err != nil || have+growth >= total {
		return err
	}
	if err := f.Truncate(total); err != nil {
		return err
	}
	if err := d.Refresh(); err != nil {
		return err
	}
	err := l.briefly(handle, f, func(dir string) error {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := resize(fd, uint64(total/ext4.BlockSize)); err != nil {
			return err
		}
		return unix.Syncfs(fd)
	})
	if errors.Is(err, unix.EPERM) {
		return ErrInUse // it takes CAP_SYS_RESOURCE
	}
	return err
}

// resize asks the kernel to enlarge a mounted ext4 file system.
func resize(fd int, blocks uint64) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), resizeFS, uintptr(unsafe.Pointer(&blocks))); e != 0 {
		return e
	}
	return nil
}
