package native

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sagong/lib/cgroup"
	"sagong/runtime"
)

// facts are what the planner needs to know about the machine and the pod.
type facts struct {
	// Joins is the number of cgroup files sent before all other descriptors.
	Joins int
	// CgroupBinds make up /sys/fs/cgroup.
	CgroupBinds []cgroup.Bind
	// Nodes are the container's devices, resolved.
	Nodes []node
	// Hostname for $HOSTNAME.
	Hostname string
	// Home from the container's /etc/passwd.
	Home string
	// Filter is the compiled seccomp profile.
	Filter      []byte
	FilterFlags uint32
	// HostIPC containers see the host's /dev/shm.
	HostIPC bool
}

// source is a mount to be cloned from the host before the plan is sent.
type source struct {
	Path   string
	Target string
	Set    uint64
	// Recursive applies Set to submounts too.
	Recursive   bool
	Propagation uint64
	// Dir is set when it is known to be a directory.
	Dir bool
	// Shared demands that the source lies on a shared mount.
	Shared bool
}

const (
	attrRO     = unix.MOUNT_ATTR_RDONLY
	attrNoSuid = unix.MOUNT_ATTR_NOSUID
	attrNoDev  = unix.MOUNT_ATTR_NODEV
	attrNoExec = unix.MOUNT_ATTR_NOEXEC
)

// planContainer decides everything about a container's start. Descriptors are
// sent in the order: cgroup files, root, sources.
func planContainer(c runtime.Container, f facts) (*plan, []source, error) {
	p := &plan{Rootfs: uint32(f.Joins), UID: c.User.UID, GID: c.User.GID}
	for i := range f.Joins {
		p.Joins = append(p.Joins, uint32(i))
	}
	p.Flags |= planCgroupNS
	if c.TTY {
		p.Flags |= planTTY
	}
	if c.Security.ReadOnlyRootfs {
		p.Flags |= planReadOnly
	}
	if c.OOMScoreAdj != 0 {
		p.OOMScoreAdj = strconv.Itoa(c.OOMScoreAdj)
	}
	if err := planProcess(p, c, f); err != nil {
		return nil, nil, err
	}
	sources, err := planMounts(p, c, f)
	if err != nil {
		return nil, nil, err
	}
	return p, sources, nil
}

// planProcess decides what the process is and may do; it is common to a
// container and to an exec in it.
func planProcess(p *plan, c runtime.Container, f facts) error {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return fmt.Errorf("no command: neither the container nor its image names one")
	}
	for _, s := range slices.Concat(c.Args, c.Env, []string{c.Cwd}) {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("a NUL byte in %q", s)
		}
	}
	caps, err := capabilities(c.Security)
	if err != nil {
		return err
	}
	p.Permitted, p.Bounding = caps, caps
	p.UID, p.GID, p.Groups = c.User.UID, c.User.GID, c.User.Groups
	if p.UID != 0 {
		// As execve(2) does for anyone but root, unless a file has capabilities:
		// the bounding set says what those may give.
		p.Permitted = 0
	}
	if c.Security.NoNewPrivileges {
		p.Flags |= planNNP
	}
	p.Filter, p.FilterFlags = f.Filter, f.FilterFlags
	for _, name := range sortedKeys(c.Rlimits) {
		r, ok := rlimitNumbers[strings.TrimPrefix(strings.ToLower(name), "rlimit_")]
		if !ok {
			return fmt.Errorf("unknown resource limit %q", name)
		}
		p.Rlimits = append(p.Rlimits, rlimit{r, c.Rlimits[name].Soft, c.Rlimits[name].Hard})
	}
	p.Cwd = path.Clean("/" + c.Cwd)
	p.Args = c.Args
	p.Env = environment(c, f)
	return nil
}

var rlimitNumbers = map[string]uint32{
	"cpu": unix.RLIMIT_CPU, "fsize": unix.RLIMIT_FSIZE, "data": unix.RLIMIT_DATA, "stack": unix.RLIMIT_STACK,
	"core": unix.RLIMIT_CORE, "rss": unix.RLIMIT_RSS, "nproc": unix.RLIMIT_NPROC, "nofile": unix.RLIMIT_NOFILE,
	"memlock": unix.RLIMIT_MEMLOCK, "as": unix.RLIMIT_AS, "locks": unix.RLIMIT_LOCKS,
	"sigpending": unix.RLIMIT_SIGPENDING, "msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE,
	"rtprio": unix.RLIMIT_RTPRIO, "rttime": unix.RLIMIT_RTTIME,
}

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is the container's, with what every process expects in front. Of
// a name given twice the last counts, and only that is kept.
func environment(c runtime.Container, f facts) []string {
	env := make([]string, 0, len(c.Env)+4)
	env = append(env, defaultPath)
	if f.Hostname != "" {
		env = append(env, "HOSTNAME="+f.Hostname)
	}
	if f.Home != "" {
		env = append(env, "HOME="+f.Home)
	}
	if c.TTY {
		env = append(env, "TERM=xterm")
	}
	return mergeEnv(env, c.Env)
}

func mergeEnv(base, over []string) []string {
	at := make(map[string]int, len(base)+len(over))
	out := make([]string, 0, len(base)+len(over))
	for _, list := range [][]string{base, over} {
		for _, e := range list {
			name, _, _ := strings.Cut(e, "=")
			if i, ok := at[name]; ok {
				out[i] = e
				continue
			}
			at[name] = len(out)
			out = append(out, e)
		}
	}
	return out
}

// planMounts decides the mounts, devices, links and masks, in order.
func planMounts(p *plan, c runtime.Container, f facts) ([]source, error) {
	var sources []source
	attach := func(s source, dir bool) {
		p.Ops = append(p.Ops, op{Kind: opAttach, Target: s.Target, FD: uint32(f.Joins + 1 + len(sources)), Dir: dir})
		sources = append(sources, s)
	}
	replaced := map[string]*runtime.Mount{}
	for i := range c.Mounts {
		m := &c.Mounts[i]
		if !path.IsAbs(m.Target) || path.Clean(m.Target) == "/" {
			return nil, fmt.Errorf("cannot mount on %q: it must be an absolute path below the root", m.Target)
		}
		replaced[path.Clean(m.Target)] = m
	}
	user := func(m *runtime.Mount) error {
		target := path.Clean(m.Target)
		if m.Tmpfs != nil {
			p.Ops = append(p.Ops, tmpfsOp(target, m))
			return nil
		}
		if !path.IsAbs(m.Source) {
			return fmt.Errorf("cannot mount on %q: source %q must be an absolute path", m.Target, m.Source)
		}
		s, err := volume(m, target)
		if err != nil {
			return err
		}
		// Whether it is a directory shows when it is opened.
		attach(s, false)
		return nil
	}
	var failed error
	standard := func(target string, f func()) {
		if m, ok := replaced[target]; ok {
			if err := user(m); err != nil {
				failed = err
			}
			delete(replaced, target)
			return
		}
		f()
	}
	fs := func(target, typ string, attrs uint32, opts ...string) func() {
		return func() {
			p.Ops = append(p.Ops, op{Kind: opFS, Target: target, Type: typ, Options: options(opts...), Attrs: attrs})
		}
	}
	privileged := c.Security.Privileged
	sysAttr := uint32(attrNoSuid | attrNoExec | attrNoDev)
	if !privileged {
		sysAttr |= attrRO
	}
	standard("/proc", fs("/proc", "proc", attrNoSuid|attrNoExec|attrNoDev))
	ownDev := replaced["/dev"] == nil
	standard("/dev", fs("/dev", "tmpfs", attrNoSuid|unix.MOUNT_ATTR_STRICTATIME, "mode", "755", "size", "65536k"))
	standard("/dev/pts", fs("/dev/pts", "devpts", attrNoSuid|attrNoExec, "ptmxmode", "0666", "mode", "0620", "gid", "5"))
	standard("/dev/shm", func() {
		if f.HostIPC {
			attach(source{Path: "/dev/shm", Target: "/dev/shm", Propagation: unix.MS_PRIVATE}, true)
			return
		}
		p.Ops = append(p.Ops, op{Kind: opShm, Target: "/dev/shm"})
	})
	standard("/dev/mqueue", fs("/dev/mqueue", "mqueue", attrNoSuid|attrNoExec|attrNoDev))
	standard("/sys", fs("/sys", "sysfs", sysAttr))
	standard("/sys/fs/cgroup", func() {
		unified := len(f.CgroupBinds) == 1 && f.CgroupBinds[0].Name == ""
		if !unified && len(f.CgroupBinds) > 0 {
			fs("/sys/fs/cgroup", "tmpfs", attrNoSuid|attrNoExec|attrNoDev, "mode", "755", "size", "64k")()
		}
		for _, b := range f.CgroupBinds {
			attach(source{Path: b.Source, Target: path.Join("/sys/fs/cgroup", b.Name), Set: uint64(sysAttr),
				Propagation: unix.MS_PRIVATE, Recursive: true, Dir: true}, true)
			for _, a := range b.Aliases {
				p.Ops = append(p.Ops, op{Kind: opLink, Target: "/sys/fs/cgroup/" + a, To: b.Name})
			}
		}
	})
	if ownDev {
		for _, n := range standardNodes() {
			p.Ops = append(p.Ops, n.op())
		}
		for _, l := range [][2]string{{"/dev/fd", "/proc/self/fd"}, {"/dev/stdin", "/proc/self/fd/0"}, {"/dev/stdout", "/proc/self/fd/1"},
			{"/dev/stderr", "/proc/self/fd/2"}, {"/dev/core", "/proc/kcore"}, {"/dev/ptmx", "pts/ptmx"}} {
			p.Ops = append(p.Ops, op{Kind: opLink, Target: l[0], To: l[1]})
		}
		std := map[string]bool{}
		for _, n := range standardNodes() {
			std[n.path] = true
		}
		for _, n := range f.Nodes {
			if !std[n.path] {
				p.Ops = append(p.Ops, n.op())
			}
		}
	}
	for i := range c.Mounts {
		if _, ok := replaced[path.Clean(c.Mounts[i].Target)]; !ok {
			continue
		}
		if err := user(&c.Mounts[i]); err != nil {
			return nil, err
		}
	}
	if failed != nil {
		return nil, failed
	}
	if c.TTY {
		p.Ops = append(p.Ops, op{Kind: opConsole, Target: "/dev/console"})
	}
	if !privileged {
		masked, readonly := c.Security.MaskedPaths, c.Security.ReadonlyPaths
		if masked == nil {
			masked = runtime.DefaultMaskedPaths()
		}
		if readonly == nil {
			readonly = runtime.DefaultReadonlyPaths()
		}
		for _, t := range readonly {
			p.Ops = append(p.Ops, op{Kind: opReadOnly, Target: path.Clean("/" + t)})
		}
		for _, t := range masked {
			p.Ops = append(p.Ops, op{Kind: opMask, Target: path.Clean("/" + t)})
		}
	}
	return sources, nil
}

func tmpfsOp(target string, m *runtime.Mount) op {
	mode := m.Tmpfs.Mode
	if mode == 0 {
		mode = 0o1777
	}
	opts := []string{"mode", strconv.FormatUint(uint64(mode), 8)}
	if m.Tmpfs.Size > 0 {
		opts = append(opts, "size", strconv.FormatInt(m.Tmpfs.Size, 10))
	}
	if m.Tmpfs.UID != 0 {
		opts = append(opts, "uid", strconv.FormatUint(uint64(m.Tmpfs.UID), 10))
	}
	if m.Tmpfs.GID != 0 {
		opts = append(opts, "gid", strconv.FormatUint(uint64(m.Tmpfs.GID), 10))
	}
	return op{Kind: opFS, Target: target, Type: "tmpfs", Options: options(opts...), Attrs: uint32(mountAttrs(m))}
}

func mountAttrs(m *runtime.Mount) uint64 {
	var a uint64
	for flag, on := range map[uint64]bool{attrRO: m.ReadOnly || m.RecursiveReadOnly, attrNoExec: m.NoExec, attrNoSuid: m.NoSuid, attrNoDev: m.NoDev} {
		if on {
			a |= flag
		}
	}
	return a
}

func volume(m *runtime.Mount, target string) (source, error) {
	s := source{Path: m.Source, Target: target, Set: mountAttrs(m), Recursive: m.RecursiveReadOnly}
	switch m.Propagation {
	case runtime.PropagationNone:
		s.Propagation = unix.MS_PRIVATE
	case runtime.PropagationHostToContainer:
		s.Propagation = unix.MS_SLAVE
	case runtime.PropagationBidirectional:
		s.Propagation, s.Shared = unix.MS_SHARED, true
	default:
		return s, fmt.Errorf("unknown mount propagation %q", m.Propagation)
	}
	if m.RecursiveReadOnly && m.Propagation != runtime.PropagationNone {
		return s, fmt.Errorf("cannot mount on %q recursively read-only with mount propagation", m.Target)
	}
	return s, nil
}

// planExec decides about a command in a running container.
func planExec(c runtime.Container, o runtime.ExecOptions, f facts) (*plan, error) {
	c.Args = o.Args
	c.Env = mergeEnv(c.Env, o.Env)
	c.TTY = o.TTY
	p := &plan{Flags: planJoin, Namespaces: unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP}
	for i := range f.Joins {
		p.Joins = append(p.Joins, uint32(i))
	}
	if o.TTY {
		p.Flags |= planTTY
	}
	if c.OOMScoreAdj != 0 {
		p.OOMScoreAdj = strconv.Itoa(c.OOMScoreAdj)
	}
	return p, planProcess(p, c, f)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
