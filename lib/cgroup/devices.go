package cgroup

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// DeviceRule allows the use of device nodes.
type DeviceRule struct {
	// Type is 'b', 'c', or 'a' for all devices.
	Type byte
	// Major and Minor; -1 is any.
	Major, Minor int64
	// Access is a subset of "rwm".
	Access string
}

func (r DeviceRule) String() string {
	num := func(n int64) string {
		if n < 0 {
			return "*"
		}
		return strconv.FormatInt(n, 10)
	}
	return string(r.Type) + " " + num(r.Major) + ":" + num(r.Minor) + " " + r.Access
}

func (r DeviceRule) check() error {
	if r.Type != 'a' && r.Type != 'b' && r.Type != 'c' {
		return fmt.Errorf("device type %q must be a, b or c", r.Type)
	}
	if r.Access == "" || strings.Trim(r.Access, "rwm") != "" {
		return fmt.Errorf("device access %q must be of r, w and m", r.Access)
	}
	return nil
}

// AllowDevices lets the cgroup's tasks use these devices and no others. One
// rule of type 'a' allows all.
func (t *Tree) AllowDevices(path string, rules []DeviceRule) error {
	all := false
	for _, r := range rules {
		if err := r.check(); err != nil {
			return err
		}
		all = all || (r.Type == 'a' && r.Major < 0 && r.Minor < 0 && len(r.Access) == 3)
	}
	if t.layout.Version == 2 {
		if all {
			return nil
		}
		dir, err := t.DirFD(path)
		if err != nil {
			return fmt.Errorf("cannot restrict devices: %w", err)
		}
		defer unix.Close(dir)
		return attachDeviceFilter(dir, deviceFilter(rules))
	}
	if !t.Has("devices") {
		return fmt.Errorf("cannot restrict devices: %w", ErrNoController)
	}
	dir := t.v1dir("devices", path)
	if all {
		return writeFile(filepath.Join(dir, "devices.allow"), "a *:* rwm")
	}
	if err := writeFile(filepath.Join(dir, "devices.deny"), "a *:* rwm"); err != nil {
		return fmt.Errorf("cannot restrict devices: %w", err)
	}
	// The kernel takes one rule a write.
	fd, err := openFD(filepath.Join(dir, "devices.allow"), unix.O_WRONLY)
	if err != nil {
		return fmt.Errorf("cannot restrict devices: %w", err)
	}
	defer unix.Close(fd)
	for _, r := range rules {
		if _, err := unix.Write(fd, []byte(r.String())); err != nil {
			return fmt.Errorf("cannot allow device %s: %w", r, err)
		}
	}
	return nil
}
