package native

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sagong/lib/cgroup"
	"sagong/runtime"
)

// node is a device node to be made in a container.
type node struct {
	path                   string
	mode                   uint32
	major, minor, uid, gid uint32
	access                 string
}

func (n node) op() op {
	return op{Kind: opNode, Target: n.path, Mode: n.mode, Major: n.major, Minor: n.minor, UID: n.uid, GID: n.gid}
}

func (n node) rule() cgroup.DeviceRule {
	t := byte('c')
	if n.mode&unix.S_IFMT == unix.S_IFBLK {
		t = 'b'
	}
	return cgroup.DeviceRule{Type: t, Major: int64(n.major), Minor: int64(n.minor), Access: n.access}
}

// standardNodes are in every container.
func standardNodes() []node {
	dev := func(name string, major, minor uint32) node {
		return node{path: "/dev/" + name, mode: unix.S_IFCHR | 0o666, major: major, minor: minor, access: "rwm"}
	}
	return []node{dev("null", 1, 3), dev("zero", 1, 5), dev("full", 1, 7), dev("random", 1, 8), dev("urandom", 1, 9), dev("tty", 5, 0)}
}

// standardRules are what every container may use: nodes of any device may be
// made, but only these opened.
func standardRules() []cgroup.DeviceRule {
	rules := []cgroup.DeviceRule{{Type: 'c', Major: -1, Minor: -1, Access: "m"}, {Type: 'b', Major: -1, Minor: -1, Access: "m"}}
	for _, n := range standardNodes() {
		rules = append(rules, n.rule())
	}
	return append(rules,
		cgroup.DeviceRule{Type: 'c', Major: 5, Minor: 1, Access: "rwm"},
		cgroup.DeviceRule{Type: 'c', Major: 5, Minor: 2, Access: "rwm"},
		cgroup.DeviceRule{Type: 'c', Major: 136, Minor: -1, Access: "rwm"})
}

// hostNode reads a device node of the host.
func hostNode(path string) (node, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return node{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if t := st.Mode & unix.S_IFMT; t != unix.S_IFCHR && t != unix.S_IFBLK {
		return node{}, fmt.Errorf("%s is not a device", path)
	}
	return node{path: path, mode: st.Mode, major: unix.Major(st.Rdev), minor: unix.Minor(st.Rdev), uid: st.Uid, gid: st.Gid, access: "rwm"}, nil
}

// hostNodes are the device nodes below a directory of the host, with the
// directories left out that a container has of its own.
func hostNodes(dir string) ([]node, error) {
	var nodes []node
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		switch p {
		case "/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue", "/dev/.lxc", "/dev/.lxd-mounts", "/dev/.udev":
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		case "/dev/console", "/dev/ptmx", "/dev/tty":
			return nil
		}
		if d.Type()&fs.ModeDevice == 0 {
			return nil
		}
		n, err := hostNode(p)
		if err != nil {
			return nil // it has just gone
		}
		nodes = append(nodes, n)
		return nil
	})
	return nodes, err
}

// devices resolves what a container asks for into nodes on this host.
func devices(c runtime.Container) ([]node, error) {
	var nodes []node
	if c.Security.Privileged {
		all, err := hostNodes("/dev")
		if err != nil {
			return nil, err
		}
		nodes = all
	}
	for _, d := range c.Devices {
		target := d.Target
		if target == "" {
			target = d.Source
		}
		if !filepath.IsAbs(target) || !filepath.IsAbs(d.Source) {
			return nil, fmt.Errorf("device %q must have absolute paths", d.Source)
		}
		access := d.Access
		if access == "" {
			access = "rwm"
		}
		if strings.Trim(access, "rwm") != "" {
			return nil, fmt.Errorf("device access %q must be of r, w and m", access)
		}
		found := []node{}
		if st, err := os.Stat(d.Source); err == nil && st.IsDir() {
			if found, err = hostNodes(d.Source); err != nil {
				return nil, err
			}
		} else {
			n, err := hostNode(d.Source)
			if err != nil {
				return nil, err
			}
			found = []node{n}
		}
		for _, n := range found {
			n.path = filepath.Clean(target + strings.TrimPrefix(n.path, d.Source))
			n.access = access
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}
