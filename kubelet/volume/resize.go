package volume

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// resize asks the kernel to enlarge a mounted ext4 file system.
func resize(fd int, blocks uint64) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), resizeFS, uintptr(unsafe.Pointer(&blocks))); e != 0 {
		return e
	}
	return nil
}
