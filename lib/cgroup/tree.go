package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Tree is all cgroups under one root, in every hierarchy that matters. Paths
// given to its methods are relative to the root; "" is the root itself. A Tree
// has no state of its own besides the kernel's and may be used by several
// goroutines.
type Tree struct {
	layout      Layout
	root        string
	hierarchies []hierarchy
	// byController finds the hierarchy of a version 1 controller.
	byController map[string]hierarchy
	// v2 controllers that the root may hand down.
	v2 []string
}

// ErrNoController is said when a limit needs a controller that the kernel does
// not have.
var ErrNoController = errors.New("the kernel has no such cgroup controller")

// Open prepares the tree under root, such as "/sagong-demo". Nothing is made
// yet.
func Open(layout Layout, root string) (*Tree, error) {
	root = filepath.Clean("/" + root)
	if root == "/" {
		return nil, errors.New("cannot use the cgroup root itself, give it a name")
	}
	t := &Tree{layout: layout, root: root, byController: map[string]hierarchy{}}
	if layout.Version == 2 {
		data, err := os.ReadFile(filepath.Join(layout.Unified, "cgroup.controllers"))
		if err != nil {
			return nil, fmt.Errorf("cannot read cgroup controllers: %w", err)
		}
		t.v2 = strings.Fields(string(data))
		t.hierarchies = []hierarchy{{base: filepath.Join(layout.Unified, root), mount: layout.Unified, unified: true}}
		return t, nil
	}
	byMount := map[string][]string{}
	for c, m := range layout.V1 {
		byMount[m] = append(byMount[m], c)
	}
	own := ownCgroups()
	for m, cs := range byMount {
		sort.Strings(cs)
		// A hierarchy without controllers only matters when something (systemd)
		// tracks this process in it and would kill the containers with it.
		if strings.HasPrefix(cs[0], "name=") && (own[cs[0]] == "/" || own[cs[0]] == "") {
			continue
		}
		// These limit nothing that this package sets.
		if cs[0] == "perf_event" || cs[0] == "rdma" || cs[0] == "misc" {
			continue
		}
		h := hierarchy{name: filepath.Base(m), base: filepath.Join(m, root), mount: m, controllers: cs}
		t.hierarchies = append(t.hierarchies, h)
		for _, c := range cs {
			t.byController[c] = h
		}
	}
	if layout.Unified != "" && own[""] != "/" && own[""] != "" {
		t.hierarchies = append(t.hierarchies, hierarchy{
			name: filepath.Base(layout.Unified), base: filepath.Join(layout.Unified, root), mount: layout.Unified, unified: true})
	}
	slices.SortFunc(t.hierarchies, func(a, b hierarchy) int { return strings.Compare(a.base, b.base) })
	return t, nil
}

// ownCgroups is this process's place in each hierarchy.
func ownCgroups() map[string]string {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	m := map[string]string{}
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, c := range strings.Split(parts[1], ",") {
			m[c] = parts[2]
		}
	}
	return m
}

// Version is 1 or 2.
func (t *Tree) Version() int { return t.layout.Version }

// Root is the path of the root in every hierarchy.
func (t *Tree) Root() string { return t.root }

// Has says whether limits of a controller can be set, by the names of
// version 1 ("cpu", "memory", "pids", "cpuset", "hugetlb", "devices").
func (t *Tree) Has(controller string) bool {
	if t.layout.Version == 2 {
		switch controller {
		case "devices", "freezer", "cpuacct":
			return true
		case "blkio":
			controller = "io"
		}
		return slices.Contains(t.v2, controller)
	}
	_, ok := t.byController[controller]
	return ok
}

// Create makes a cgroup and its missing parents in every hierarchy. One that
// exists is success.
func (t *Tree) Create(path string) error {
	if err := CheckPath(path); err != nil {
		return err
	}
	for _, h := range t.hierarchies {
		if err := t.create(h, path); err != nil {
			return fmt.Errorf("cannot make cgroup %s: %w", filepath.Join(t.root, path), err)
		}
	}
	return nil
}

func (t *Tree) create(h hierarchy, path string) error {
	dir := h.dir(path)
	err := os.Mkdir(dir, 0o755)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err == nil && (t.layout.Version == 1 || t.handsDown(filepath.Dir(dir))):
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	// A parent is missing or has had no children yet. Walk from the mount point
	// down: on version 2 every parent must hand its controllers down.
	rel, _ := filepath.Rel(h.mount, dir)
	at := h.mount
	parts := strings.Split(rel, "/")
	for i, p := range parts {
		if t.layout.Version == 2 {
			if err := t.handDown(at, i == 0); err != nil {
				return err
			}
		}
		at = filepath.Join(at, p)
		err := os.Mkdir(at, 0o755)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if i == 0 && err == nil && slices.Contains(h.controllers, "cpuset") {
			if err := inheritCPUSet(at); err != nil {
				return err
			}
		}
	}
	return nil
}

// CreateParent is Create for a cgroup that will have children: on version 2 it
// also hands the controllers down.
func (t *Tree) CreateParent(path string) error {
	if err := t.Create(path); err != nil {
		return err
	}
	if t.layout.Version == 2 {
		if err := t.handDown(t.hierarchies[0].dir(path), false); err != nil {
			return fmt.Errorf("cannot make cgroup %s: %w", filepath.Join(t.root, path), err)
		}
	}
	return nil
}

// handsDown says whether a version 2 cgroup gives its children all controllers.
func (t *Tree) handsDown(dir string) bool {
	var buf [256]byte
	have := strings.Fields(string(readSmall(filepath.Join(dir, "cgroup.subtree_control"), buf[:])))
	return !slices.ContainsFunc(t.v2, func(c string) bool { return !slices.Contains(have, c) })
}

// handDown enables all controllers for the children of a version 2 cgroup.
func (t *Tree) handDown(dir string, isMount bool) error {
	file := filepath.Join(dir, "cgroup.subtree_control")
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	have := strings.Fields(string(data))
	var want []string
	for _, c := range t.v2 {
		if !slices.Contains(have, c) {
			want = append(want, "+"+c)
		}
	}
	if len(want) == 0 {
		return nil
	}
	err = writeFile(file, strings.Join(want, " "))
	if errors.Is(err, unix.EBUSY) && isMount {
		// This is the root of a cgroup namespace (a container) with processes in
		// it, which may then have no children with controllers. Move them aside.
		if err = evacuate(dir); err == nil {
			err = writeFile(file, strings.Join(want, " "))
		}
	}
	if err == nil {
		return nil
	}
	// One controller may be unavailable here (real-time tasks keep cpu back):
	// enable those that can be, and let setting a limit say what is missing.
	for _, w := range want {
		_ = writeFile(file, w)
	}
	return nil
}

func evacuate(dir string) error {
	leaf := filepath.Join(dir, "sagong-init")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	pids, err := procsOf(dir)
	if err != nil {
		return err
	}
	for _, p := range pids {
		if err := writeFile(filepath.Join(leaf, "cgroup.procs"), strconv.Itoa(p)); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// inheritCPUSet fills a new version 1 cpuset, which starts out empty and then
// takes no task, and has the kernel do so for all below it.
func inheritCPUSet(dir string) error {
	if err := writeFile(filepath.Join(dir, "cgroup.clone_children"), "1"); err != nil {
		return err
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(own)) != "" {
			continue
		}
		parent, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dir, name), strings.TrimSpace(string(parent))); err != nil {
			return err
		}
	}
	return nil
}

// Exists says whether the cgroup is there in the hierarchy that matters most.
func (t *Tree) Exists(path string) bool {
	for _, h := range t.hierarchies {
		if _, err := os.Stat(h.dir(path)); err == nil {
			return true
		}
	}
	return false
}

// Procs are the processes in a cgroup and all its children, each once. It looks
// at the hierarchy that is joined first, and so holds what is just joining too.
func (t *Tree) Procs(path string) ([]int, error) {
	if len(t.hierarchies) == 0 {
		return nil, nil
	}
	all, err := procsBelow(t.hierarchies[0].dir(path), nil)
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes of cgroup %s: %w", path, err)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

func procsBelow(dir string, all []int) ([]int, error) {
	pids, err := procsOf(dir)
	if err != nil {
		return nil, err
	}
	all = append(all, pids...)
	children, err := childrenOf(dir)
	if err != nil {
		return nil, err
	}
	for _, c := range children {
		if all, err = procsBelow(filepath.Join(dir, c), all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// childrenOf are the names of the cgroups in a cgroup, none when it is gone.
func childrenOf(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil, nil
		}
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func procsOf(dir string) ([]int, error) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil, nil
		}
		return nil, err
	}
	var pids []int
	for f := range strings.FieldsSeq(string(data)) {
		if p, err := strconv.Atoi(f); err == nil && p > 0 {
			pids = append(pids, p)
		}
	}
	return pids, nil
}

// JoinFDs opens what a new process must write "0" to in order to join the
// cgroup in the version 1 hierarchies. The caller closes them. On version 2
// there are none: see DirFD.
//
// They are the files "tasks" and not "cgroup.procs": a thread that moves itself
// alone does not take the kernel's global lock, whose writers wait for a grace
// period of several milliseconds. A process that is about to execute has one
// thread.
func (t *Tree) JoinFDs(path string) ([]int, error) {
	if t.layout.Version == 2 {
		return nil, nil
	}
	fds := make([]int, 0, len(t.hierarchies))
	for _, h := range t.hierarchies {
		if h.unified {
			continue
		}
		fd, err := openFD(filepath.Join(h.dir(path), "tasks"), unix.O_WRONLY)
		if err != nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
			return nil, fmt.Errorf("cannot open cgroup %s: %w", path, err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// DirFD opens the cgroup's directory in the version 2 hierarchy, for
// CLONE_INTO_CGROUP; -1 when it has none there. The caller closes it.
func (t *Tree) DirFD(path string) (int, error) {
	for _, h := range t.hierarchies {
		if !h.unified {
			continue
		}
		fd, err := openFD(h.dir(path), unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return -1, fmt.Errorf("cannot open cgroup %s: %w", path, err)
		}
		return fd, nil
	}
	return -1, nil
}

// TrackingFDs are the JoinFDs of those hierarchies only that limit nothing and
// by which a service manager finds, and kills, the processes of a service.
func (t *Tree) TrackingFDs(path string) ([]int, error) {
	var fds []int
	for _, h := range t.hierarchies {
		if h.unified || (len(h.controllers) > 0 && !strings.HasPrefix(h.controllers[0], "name=")) {
			continue
		}
		fd, err := openFD(filepath.Join(h.dir(path), "tasks"), unix.O_WRONLY)
		if err != nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
			return nil, fmt.Errorf("cannot open cgroup %s: %w", path, err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// OOMFD opens the file in which the kernel counts the processes it killed for
// want of memory ("oom_kill N"); -1 without a memory controller. The caller
// closes it.
func (t *Tree) OOMFD(path string) (int, error) {
	if !t.Has("memory") {
		return -1, nil
	}
	name := filepath.Join(t.v1dir("memory", path), "memory.oom_control")
	if t.layout.Version == 2 {
		name = filepath.Join(t.hierarchies[0].dir(path), "memory.events")
	}
	fd, err := openFD(name, unix.O_RDONLY)
	if err != nil {
		return -1, fmt.Errorf("cannot watch for OOM kills: %w", err)
	}
	return fd, nil
}

// openFD opens without the runtime's poller, which for a file of the kernel is
// five more system calls.
func openFD(name string, flags int) (int, error) {
	for {
		fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return fd, nil
	}
}

// Bind is a directory to show under /sys/fs/cgroup of a container.
type Bind struct {
	// Name below /sys/fs/cgroup; "" is /sys/fs/cgroup itself (version 2).
	Name string
	// Source is the cgroup's directory on the host.
	Source string
	// Aliases are other names of the same directory ("cpu" of "cpu,cpuacct").
	Aliases []string
}

// Binds are the directories that make up /sys/fs/cgroup of a container.
func (t *Tree) Binds(path string) []Bind {
	binds := make([]Bind, 0, len(t.hierarchies))
	for _, h := range t.hierarchies {
		b := Bind{Name: h.name, Source: h.dir(path)}
		for _, c := range h.controllers {
			if c != h.name && !strings.HasPrefix(c, "name=") {
				b.Aliases = append(b.Aliases, c)
			}
		}
		binds = append(binds, b)
	}
	return binds
}

// Remove removes a cgroup with its children. No process may be left; a cgroup
// still busy with one that is just ending is retried for up to two seconds.
// One that does not exist is success.
func (t *Tree) Remove(path string) error {
	if err := CheckPath(path); err != nil {
		return err
	}
	for _, h := range t.hierarchies {
		if err := removeAll(h.dir(path)); err != nil {
			return fmt.Errorf("cannot remove cgroup: %w", err)
		}
	}
	return nil
}

func removeAll(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	children, err := childrenOf(dir)
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := removeAll(filepath.Join(dir, c)); err != nil {
			return err
		}
	}
	// The kernel says EBUSY while the last task's exit is under way and has no
	// event for its end, so this is one of the few places that must try again.
	for wait := 100 * time.Microsecond; ; wait *= 2 {
		err := unix.Rmdir(dir)
		if err == nil || err == unix.ENOENT {
			return nil
		}
		if err != unix.EBUSY || wait > time.Second {
			return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
		}
		time.Sleep(wait)
	}
}

// RemoveRoot removes the whole tree.
func (t *Tree) RemoveRoot() error {
	for _, h := range t.hierarchies {
		if err := removeAll(h.base); err != nil {
			return fmt.Errorf("cannot remove cgroup: %w", err)
		}
	}
	return nil
}

// List are the names of the children of a cgroup in any hierarchy.
func (t *Tree) List(path string) ([]string, error) {
	var names []string
	for _, h := range t.hierarchies {
		children, err := childrenOf(h.dir(path))
		if err != nil {
			return nil, err
		}
		names = append(names, children...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (t *Tree) v1dir(controller, path string) string {
	return t.byController[controller].dir(path)
}

// CheckPath refuses what would leave the root or be the root.
func CheckPath(path string) error {
	if path == "" || path[0] == '/' || filepath.Clean(path) != path || path == "." || strings.HasPrefix(path, "..") {
		return fmt.Errorf("cgroup path %q must be relative, clean and below the root", path)
	}
	return nil
}

// writeFile writes a value in one system call, as the kernel's files want.
func writeFile(name, value string) error {
	fd, err := openFD(name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		_, err = unix.Write(fd, []byte(value))
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return &fs.PathError{Op: "write " + strconv.Quote(value) + " to", Path: name, Err: err}
	}
	return nil
}
