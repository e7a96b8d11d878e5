// Package loop shows files as block devices and mounts them.
package loop

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// blockSize is the least that a device reads or writes, in bytes. That of the
// file systems that it carries lets it go round the page cache.
const blockSize = 4096

// A Device is an open loop device.
type Device struct {
	f *os.File
	// Number is the N of /dev/loopN.
	Number int
}

// Open opens device n if it carries the file; nil if it does not.
func Open(n int, file *os.File) (*Device, error) {
	f, err := os.OpenFile(path(n), os.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENXIO) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open loop device: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot stat %s: %w", file.Name(), err)
	}
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil || info.Inode != st.Ino || info.Device != st.Dev {
		f.Close()
		if err != nil && !errors.Is(err, unix.ENXIO) {
			return nil, fmt.Errorf("cannot read state of loop device: %w", err)
		}
		return nil, nil
	}
	return &Device{f, n}, nil
}

// Attach finds a free device and has it carry a file, open for reading and
// writing, until the device is closed and nothing of it is mounted. chosen hears
// of the device before it carries the file; Attach may choose again after that.
func Attach(file *os.File, chosen func(n int) error) (*Device, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot ask for a loop device: %w", err)
	}
	defer control.Close()
	for range 64 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("cannot ask for a loop device: %w", err)
		}
		if err := chosen(n); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path(n), os.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("cannot open loop device: %w", err)
		}
		c := unix.LoopConfig{Fd: uint32(file.Fd()), Size: blockSize}
		c.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
		copy(c.Info.File_name[:len(c.Info.File_name)-1], file.Name())
		err = unix.IoctlLoopConfigure(int(f.Fd()), &c)
		if err == nil {
			return &Device{f, n}, nil
		}
		f.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("cannot set up loop device: %w", err)
		}
	}
	return nil, errors.New("cannot set up loop device: others were always faster")
}

func path(n int) string { return fmt.Sprintf("/dev/loop%d", n) }

// Path is the device's name.
func (d *Device) Path() string { return d.f.Name() }

// Refresh has the device see that its file has grown.
func (d *Device) Refresh() error {
	if err := unix.IoctlSetInt(int(d.f.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("cannot enlarge loop device: %w", err)
	}
	return nil
}

// Close lets go of the device. It goes on as long as something of it is mounted.
func (d *Device) Close() error { return d.f.Close() }
