package cgroup

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Layout says where the kernel's cgroup file systems are mounted.
type Layout struct {
	// Version is 1 when the controllers are on version 1 hierarchies (hybrid
	// machines included), 2 when they are on the unified one.
	Version int
	// Unified is the mount point of the version 2 hierarchy, or empty.
	Unified string
	// V1 is the mount point of each version 1 controller ("memory"), and of
	// named hierarchies ("name=systemd"). Controllers mounted together share a
	// mount point.
	V1 map[string]string
}

// Detect reads the layout from this process's mount table.
func Detect() (Layout, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return Layout{}, fmt.Errorf("cannot detect cgroups: %w", err)
	}
	defer f.Close()
	l, err := ParseLayout(f)
	if err != nil {
		return Layout{}, fmt.Errorf("cannot detect cgroups: %w", err)
	}
	return l, nil
}

// ParseLayout reads the layout from a mount table in the form of
// /proc/self/mountinfo. The first mount of a hierarchy wins.
func ParseLayout(r io.Reader) (Layout, error) {
	l := Layout{V1: map[string]string{}}
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		before, after, ok := strings.Cut(s.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 3 {
			continue
		}
		point := unescapeMount(left[4])
		switch right[0] {
		case "cgroup2":
			if l.Unified == "" {
				l.Unified = point
			}
		case "cgroup":
			for _, o := range strings.Split(right[2], ",") {
				if _, known := l.V1[o]; !known && (v1Controllers[o] || strings.HasPrefix(o, "name=")) {
					l.V1[o] = point
				}
			}
		}
	}
	if err := s.Err(); err != nil {
		return Layout{}, err
	}
	switch {
	case l.V1["memory"] != "" || l.V1["cpu"] != "" || l.V1["pids"] != "":
		l.Version = 1
	case l.Unified != "":
		l.Version = 2
	default:
		return Layout{}, fmt.Errorf("no cgroup file system with controllers is mounted; mount cgroup2 at /sys/fs/cgroup")
	}
	return l, nil
}

var v1Controllers = map[string]bool{
	"cpu": true, "cpuacct": true, "cpuset": true, "memory": true, "devices": true, "freezer": true,
	"blkio": true, "pids": true, "hugetlb": true, "net_cls": true, "net_prio": true, "perf_event": true,
	"rdma": true, "misc": true,
}

// unescapeMount undoes the octal escapes of the mount table.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// hierarchy is one directory tree in which every cgroup of a Tree exists.
type hierarchy struct {
	// name is how /sys/fs/cgroup of a container shows it; empty on version 2.
	name string
	// base is mount point and root.
	base string
	// mount is the mount point alone.
	mount       string
	controllers []string
	// unified is set for the version 2 hierarchy.
	unified bool
}

func (h hierarchy) dir(path string) string { return filepath.Join(h.base, path) }
