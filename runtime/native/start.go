package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sagong/runtime"
)

// start prepares everything that the plan names and has the shim carry it out.
func (r *Runtime) start(ctx context.Context, c *container) (runtime.Started, error) {
	s, spec := c.sandbox, c.spec
	cg := cgroupOf(s, spec.ID)
	if err := r.tree.Create(cg); err != nil {
		return runtime.Started{}, err
	}
	if err := r.tree.Apply(cg, spec.Resources); err != nil {
		return runtime.Started{}, err
	}
	f, err := r.facts(c)
	if err != nil {
		return runtime.Started{}, err
	}
	if err := r.restrictDevices(c, cg, f.Nodes); err != nil {
		return runtime.Started{}, err
	}
	if spec.OOMScoreAdj < 0 && !hasCapability(unix.CAP_SYS_RESOURCE) {
		r.oomOnce.Do(func() {
			r.log.Warn("oom_score_adj below zero needs CAP_SYS_RESOURCE; containers that ask for it run without", "container", spec.ID)
		})
	}
	q := newRequest(reqStart, spec.ID)
	q.CloneFlags = unix.CLONE_NEWNS
	switch {
	case spec.TargetID != "":
		q.Target = spec.TargetID
	case s.spec.ShareProcessNamespace:
		q.Target = pauseID
	case !s.spec.HostPID:
		q.CloneFlags |= unix.CLONE_NEWPID
	}
	defer q.close()
	if err := r.joinRequest(q, cg); err != nil {
		return runtime.Started{}, err
	}
	f.Joins = len(q.fds)
	f.CgroupBinds = r.tree.Binds(cg)

	upper, work := "", ""
	if len(spec.Rootfs.Layers) > 0 {
		dir := r.dirs.containerData(spec.SandboxUID, spec.ID)
		upper, work = filepath.Join(dir, "upper"), filepath.Join(dir, "work")
		if err := makeLayer(spec.Rootfs, upper, work); err != nil {
			return runtime.Started{}, err
		}
	} else {
		upper = "-" // writable as it is
	}
	root, err := mountRoot(spec.Rootfs, upper, work, r.dirs.run)
	if err != nil {
		return runtime.Started{}, &runtime.StartError{Step: "mount the root file system", Err: err}
	}
	defer root.Close()
	q.send(int(root.Fd()))
	if !hasHome(spec.Env) {
		f.Home = homeOf(root, spec.User)
	}
	p, sources, err := planContainer(spec, f)
	if err != nil {
		return runtime.Started{}, err
	}
	if err := openSources(q, p, sources); err != nil {
		return runtime.Started{}, err
	}
	if err := r.attachRecords(q, c, cg, p); err != nil {
		return runtime.Started{}, err
	}
	a, err := ask(ctx, s.run, q)
	if errors.Is(err, unix.EEXIST) {
		// A start that an earlier server asked for and did not live to see.
		r.settle(c)
		if st, serr := r.Status(ctx, spec.ID); serr == nil && st.State == runtime.StateRunning {
			return runtime.Started{PID: st.PID, At: st.StartedAt}, nil
		}
	}
	if err != nil {
		return runtime.Started{}, err
	}
	if a.Type != replyStarted {
		return runtime.Started{}, fmt.Errorf("the shim answered %d instead of a start", a.Type)
	}
	r.noteStarted(c, int(a.A), time.Unix(0, a.B))
	return runtime.Started{PID: int(a.A), At: time.Unix(0, a.B)}, nil
}

// makeLayer makes the writable layer of a container. Its root becomes the
// container's, and so must be as the image has it.
func makeLayer(root runtime.Rootfs, upper, work string) error {
	for _, d := range []string{upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil && !os.IsExist(err) {
			return err
		}
	}
	top := root.Layers[len(root.Layers)-1]
	var want, have unix.Stat_t
	if err := unix.Stat(top, &want); err != nil {
		return &runtime.StartError{Step: "mount the root file system", Err: &os.PathError{Op: "open", Path: top, Err: err}}
	}
	if err := unix.Stat(upper, &have); err != nil {
		return &os.PathError{Op: "stat", Path: upper, Err: err}
	}
	if want.Uid != have.Uid || want.Gid != have.Gid {
		if err := os.Chown(upper, int(want.Uid), int(want.Gid)); err != nil {
			return err
		}
	}
	if want.Mode != have.Mode {
		return unix.Chmod(upper, want.Mode&0o7777)
	}
	return nil
}

func (r *Runtime) noteStarted(c *container, pid int, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.status.State != runtime.StateCreated {
		// It has ended already, and its end was told first. Starts are told
		// nevertheless, so the end is told with the right times.
		return
	}
	c.status.State, c.status.PID, c.status.StartedAt = runtime.StateRunning, pid, at
	r.emit(runtime.EventStarted, c.spec.SandboxUID, c.status)
}

// facts collects what the planner must know.
func (r *Runtime) facts(c *container) (facts, error) {
	s := c.sandbox
	f := facts{Hostname: s.spec.Hostname, HostIPC: s.spec.HostIPC}
	if f.Hostname == "" {
		f.Hostname, _ = os.Hostname()
	}
	var err error
	if f.Nodes, err = devices(c.spec); err != nil {
		return f, err
	}
	f.Filter, f.FilterFlags, err = r.filters.get(c.spec.Security)
	return f, err
}

func (r *Runtime) restrictDevices(c *container, cg string, nodes []node) error {
	if c.spec.Security.Privileged || !r.tree.Has("devices") {
		return nil // a new cgroup allows what its parent does
	}
	rules := standardRules()
	for _, n := range nodes {
		rules = append(rules, n.rule())
	}
	return r.tree.AllowDevices(cg, rules)
}

// openSources clones the mounts from the host and says in the plan which are
// directories.
func openSources(q *request, p *plan, sources []source) error {
	byFD := map[uint32]int{}
	for i, o := range p.Ops {
		if o.Kind == opAttach {
			byFD[o.FD] = i
		}
	}
	for i, s := range sources {
		fd, dir, err := openSource(s)
		if err != nil {
			return &runtime.StartError{Step: fmt.Sprintf("mount %q", s.Target), Err: err}
		}
		q.own(fd)
		p.Ops[byFD[p.Rootfs+1+uint32(i)]].Dir = dir
	}
	return nil
}

func openSource(s source) (int, bool, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, s.Path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, false, &os.PathError{Op: "open", Path: s.Path, Err: err}
	}
	fail := func(err error) (int, bool, error) {
		unix.Close(fd)
		return -1, false, &os.PathError{Op: "mount", Path: s.Path, Err: err}
	}
	if s.Shared {
		if err := checkShared(s.Path); err != nil {
			return fail(err)
		}
	}
	// Propagation goes for all submounts, the attributes for the top one unless
	// asked otherwise.
	prop := unix.MountAttr{Propagation: s.Propagation}
	if s.Recursive {
		prop.Attr_set = s.Set
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &prop); err != nil {
		return fail(err)
	}
	if s.Set != 0 && !s.Recursive {
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: s.Set}); err != nil {
			return fail(err)
		}
	}
	if s.Dir {
		return fd, true, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fail(err)
	}
	return fd, st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// checkShared refuses a source from which mounts would not reach the host.
func checkShared(path string) error {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st); err != nil {
		return &os.PathError{Op: "statx", Path: path, Err: err}
	}
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) > 6 && f[0] == fmt.Sprint(st.Mnt_id) {
			if i := slices.Index(f, "-"); i > 6 && slices.ContainsFunc(f[6:i], func(s string) bool { return strings.HasPrefix(s, "shared:") }) {
				return nil
			}
			return fmt.Errorf("path %q is mounted on %q but it is not a shared mount", path, f[4])
		}
	}
	return fmt.Errorf("cannot find the mount of %q", path)
}

// attachRecords adds the files that the shim itself uses: log, directory of
// records, OOM counter, and the plan.
func (r *Runtime) attachRecords(q *request, c *container, cg string, p *plan) error {
	dir := r.dirs.containerRun(c.spec.SandboxUID, c.spec.ID)
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	for _, o := range []struct {
		at   *int32
		open func() (int, error)
	}{
		{&q.Log, func() (int, error) { return openLog(c.spec.LogPath) }},
		{&q.Dir, func() (int, error) { return unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) }},
		{&q.OOM, func() (int, error) { return r.tree.OOMFD(cg) }},
		{&q.Cgroup, func() (int, error) { return r.tree.DirFD(cg) }},
		{&q.Plan, func() (int, error) { return memfd("sagong-plan", p.encode()) }},
	} {
		fd, err := o.open()
		if err != nil {
			return err
		}
		if fd >= 0 {
			*o.at = q.own(fd)
		}
	}
	if c.spec.TTY {
		q.Flags |= streamTTY
	}
	if c.spec.Stdin {
		q.Flags |= streamStdin
	}
	if c.spec.StdinOnce {
		q.Flags |= streamStdinOnce
	}
	return nil
}
