// Package trace takes inventory of what a cluster could leave behind on a
// machine, so that tests can compare before and after.
package trace

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Inventory is a set of lines, each one thing: a mount, a process, a link, ...
type Inventory map[string]bool

// Take looks at the whole machine.
func Take() (Inventory, error) {
	inv := Inventory{}
	for _, look := range []func(Inventory) error{mounts, processes, network, cgroups, files} {
		if err := look(inv); err != nil {
			return nil, err
		}
	}
	return inv, nil
}

// Added lists what is in after and not in before.
func Added(before, after Inventory) []string {
	var added []string
	for line := range after {
		if !before[line] {
			added = append(added, line)
		}
	}
	slices.Sort(added)
	return added
}

func mounts(inv Inventory) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("cannot list mounts: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 4 {
			inv["mount "+f[4]] = true
		}
	}
	return nil
}

// processes lists those that a cluster starts: the binary in any of its roles,
// and whatever runs in its containers, by network namespace or cgroup.
func processes(inv Inventory) error {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return fmt.Errorf("cannot read the mount namespace: %w", err)
	}
	for _, d := range dirs {
		cmd, err := os.ReadFile(filepath.Join(d, "cmdline"))
		if err != nil || len(cmd) == 0 {
			continue
		}
		text := strings.TrimSpace(strings.ReplaceAll(string(cmd), "\x00", " "))
		ns, err := os.Readlink(filepath.Join(d, "ns/mnt"))
		if err != nil {
			continue
		}
		name, _, _ := strings.Cut(filepath.Base(strings.Fields(text)[0]), ":")
		if ns != own || strings.HasPrefix(name, "sagong") {
			inv["process "+filepath.Base(d)+" "+text] = true
		}
	}
	return nil
}

func network(inv Inventory) error {
	for _, q := range []struct {
		kind string
		args []string
	}{
		{"link", []string{"ip", "-o", "link", "show"}}, {"address", []string{"ip", "-o", "addr", "show"}},
		{"route", []string{"ip", "route", "show", "table", "all"}}, {"rule", []string{"ip", "rule", "show"}},
		{"netns", []string{"ip", "netns", "list"}}, {"neighbour", []string{"ip", "neigh", "show", "nud", "permanent"}},
	} {
		out, err := exec.Command(q.args[0], q.args[1:]...).Output()
		if err != nil {
			return fmt.Errorf("cannot list %ss: %w", q.kind, err)
		}
		for line := range strings.Lines(string(out)) {
			line = strings.TrimSpace(line)
			// Indexes and lifetimes differ from moment to moment.
			if f := strings.Fields(line); len(f) > 1 && (q.kind == "link" || q.kind == "address") {
				line = strings.Join(f[1:min(4, len(f))], " ")
			}
			inv[q.kind+" "+line] = true
		}
	}
	if out, err := exec.Command("nft", "list", "tables").Output(); err == nil {
		for line := range strings.Lines(string(out)) {
			inv["nft "+strings.TrimSpace(line)] = true
		}
	}
	return nil
}

func cgroups(inv Inventory) error {
	return filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			inv["cgroup "+path] = true
		}
		return nil
	})
}

func files(inv Inventory) error {
	for _, dir := range []string{"/var/lib", "/run", "/tmp", "/etc", "/var/log"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("cannot list %s: %w", dir, err)
		}
		for _, e := range entries {
			if strings.Contains(e.Name(), "sagong") || dir == "/run" {
				inv["file "+filepath.Join(dir, e.Name())] = true
			}
		}
	}
	return nil
}

// Naming picks the lines that contain any of the words.
func Naming(lines []string, words ...string) []string {
	var named []string
	for _, line := range lines {
		for _, w := range words {
			if strings.Contains(line, w) {
				named = append(named, line)
				break
			}
		}
	}
	return named
}
