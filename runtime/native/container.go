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

// container is what the runtime knows of a container.
type container struct {
	// spec and sandbox are constant.
	spec    runtime.Container
	sandbox *sandbox
	// gone is closed when it has exited.
	gone chan struct{}

	// Guarded by Runtime.mu.
	status runtime.ContainerStatus
}

func newContainer(s *sandbox, spec runtime.Container, created time.Time) *container {
	return &container{spec: spec, sandbox: s, gone: make(chan struct{}), status: runtime.ContainerStatus{
		ID: spec.ID, SandboxUID: spec.SandboxUID, Name: spec.Name, Attempt: spec.Attempt, Image: spec.Image,
		ImageID: spec.ImageID, LogPath: spec.LogPath, Labels: spec.Labels, Annotations: spec.Annotations,
		State: runtime.StateCreated, CreatedAt: created,
	}}
}

// CreateContainer checks and records a container.
func (r *Runtime) CreateContainer(_ context.Context, spec runtime.Container) error {
	fail := func(err error) error { return fmt.Errorf("cannot create container %s: %w", spec.ID, err) }
	if err := checkID("container id", spec.ID); err != nil {
		return fail(err)
	}
	if spec.ID == pauseID || spec.ID == shimCgroup {
		return fail(fmt.Errorf("the name is the runtime's own"))
	}
	s, err := r.sandbox(spec.SandboxUID)
	if err != nil {
		return fail(err)
	}
	if a := spec.Security.AppArmorProfile; a != "" && a != "unconfined" {
		return fail(fmt.Errorf("AppArmor profile %q: %w by the built-in runtime", a, runtime.ErrUnsupported))
	}
	if spec.TargetID != "" {
		if _, err := r.container(spec.TargetID); err != nil {
			return fail(err)
		}
	}
	// All that can be refused without the machine is refused now.
	if _, _, err := planContainer(spec, facts{}); err != nil {
		return fail(err)
	}
	s.op.Lock()
	defer s.op.Unlock()
	r.mu.Lock()
	if !s.ready || s.removing {
		r.mu.Unlock()
		return fail(fmt.Errorf("sandbox %s %w", spec.SandboxUID, runtime.ErrNotRunning))
	}
	if r.containers[spec.ID] != nil {
		r.mu.Unlock()
		return fail(runtime.ErrExists)
	}
	c := newContainer(s, spec, time.Now())
	r.containers[spec.ID] = c
	s.containers = append(s.containers, c)
	r.mu.Unlock()
	dir := r.dirs.containerData(spec.SandboxUID, spec.ID)
	err = os.Mkdir(dir, 0o711)
	if err == nil || os.IsExist(err) {
		err = writeJSON(filepath.Join(dir, "config.json"), containerFile{spec, c.status.CreatedAt})
	}
	if err != nil {
		r.forget(c)
		return fail(err)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	r.emit(runtime.EventCreated, spec.SandboxUID, c.status)
	return nil
}

// forget takes a container off the books.
func (r *Runtime) forget(c *container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.containers, c.spec.ID)
	c.sandbox.containers = slices.DeleteFunc(c.sandbox.containers, func(o *container) bool { return o == c })
}

// StartContainer executes the container's process.
func (r *Runtime) StartContainer(ctx context.Context, id string) (runtime.Started, error) {
	c, err := r.container(id)
	if err != nil {
		return runtime.Started{}, fmt.Errorf("cannot start container: %w", err)
	}
	c.sandbox.op.Lock()
	defer c.sandbox.op.Unlock()
	r.mu.RLock()
	state, ready, target := c.status.State, c.sandbox.ready, r.containers[c.spec.TargetID]
	r.mu.RUnlock()
	switch {
	case state != runtime.StateCreated:
		return runtime.Started{}, fmt.Errorf("cannot start container %s: it is %s", id, state)
	case !ready:
		return runtime.Started{}, fmt.Errorf("cannot start container %s: sandbox %w", id, runtime.ErrNotRunning)
	case c.spec.TargetID != "" && target == nil:
		return runtime.Started{}, fmt.Errorf("cannot start container %s: target container %s: %w", id, c.spec.TargetID, runtime.ErrNotFound)
	}
	// Once asked, the shim goes on whatever becomes of the context, so somebody
	// must hear how it went.
	type result struct {
		started runtime.Started
		err     error
	}
	done := make(chan result, 1)
	r.wg.Go(func() {
		started, err := r.start(r.life, c)
		if err != nil && r.life.Err() == nil {
			r.startFailed(c, err)
		}
		done <- result{started, err}
	})
	select {
	case res := <-done:
		if res.err != nil {
			return runtime.Started{}, fmt.Errorf("cannot start container %s: %w", id, res.err)
		}
		return res.started, nil
	case <-ctx.Done():
		return runtime.Started{}, fmt.Errorf("cannot start container %s: %w", id, context.Cause(ctx))
	}
}

// startFailed makes a container that could not be started an exited one.
func (r *Runtime) startFailed(c *container, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.status.State == runtime.StateExited {
		return
	}
	c.status.State, c.status.ExitCode = runtime.StateExited, 128
	c.status.FinishedAt = time.Now()
	c.status.Reason, c.status.Message = "StartError", err.Error()
	close(c.gone)
	r.emit(runtime.EventExited, c.spec.SandboxUID, c.status)
}

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

func openLog(path string) (int, error) {
	if path == "" {
		return -1, nil
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_CLOEXEC, 0o640)
	if err != nil {
		return -1, fmt.Errorf("cannot open the log: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	return fd, nil
}

// settle brings a container's status up to what the files of the shim say and,
// when the shim is gone, decides what has become of it.
func (r *Runtime) settle(c *container) {
	dir := r.dirs.containerRun(c.spec.SandboxUID, c.spec.ID)
	exit, exitErr := readExit(dir)
	start, startErr := readStart(dir)
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.status.State == runtime.StateExited || c.status.State == runtime.StateUnknown {
		return
	}
	if startErr == nil && c.status.State == runtime.StateCreated {
		c.status.State, c.status.PID, c.status.StartedAt = runtime.StateRunning, start.PID, start.At
		r.emit(runtime.EventStarted, c.spec.SandboxUID, c.status)
	}
	switch {
	case exitErr == nil:
		applyExit(&c.status, exit)
	case c.status.State == runtime.StateRunning && !c.sandbox.ready:
		c.status.State, c.status.ExitCode, c.status.FinishedAt = runtime.StateUnknown, 137, time.Now()
		c.status.Reason, c.status.Message = "ContainerStatusUnknown", "the keeper of the pod ended before it could record how the container did"
	default:
		return
	}
	c.status.PID = 0
	close(c.gone)
	r.emit(runtime.EventExited, c.spec.SandboxUID, c.status)
}

func applyExit(s *runtime.ContainerStatus, e exitFile) {
	s.State, s.ExitCode, s.Signal, s.OOMKilled = runtime.StateExited, e.Code, e.Signal, e.OOM > 0
	s.FinishedAt = e.Finished
	if !e.Started.IsZero() {
		s.StartedAt = e.Started
	}
	if e.Error != "" {
		s.Reason, s.Message = "StartError", e.Error
	}
}

// noteExit is told by shims of the end of containers.
func (r *Runtime) noteExit(uid, id string) {
	c, err := r.container(id)
	if err != nil || c.spec.SandboxUID != uid {
		return
	}
	r.settle(c)
	r.mu.RLock()
	over, removing := c.status.State == runtime.StateExited, c.sandbox.removing
	r.mu.RUnlock()
	if over && !removing && (!c.sandbox.ownPID() || c.spec.TargetID != "") {
		// Its other processes live on in a PID namespace that goes on.
		r.wg.Go(func() {
			if err := r.tree.Kill(cgroupOf(c.sandbox, id), 10*time.Second); err != nil {
				r.log.Error("cannot kill what an exited container left", "container", id, "err", err)
			}
		})
	}
}

// SignalContainer signals the first process.
func (r *Runtime) SignalContainer(ctx context.Context, id string, signal int) error {
	c, err := r.running(id)
	if err != nil {
		return fmt.Errorf("cannot signal: %w", err)
	}
	if err := r.signal(ctx, c, signal); err != nil {
		return fmt.Errorf("cannot signal container %s: %w", id, err)
	}
	return nil
}

func (r *Runtime) signal(ctx context.Context, c *container, signal int) error {
	if signal < 1 || signal > 64 {
		return fmt.Errorf("there is no signal %d", signal)
	}
	// The shim is the parent, so the number cannot have been used again.
	q := newRequest(reqSignal, c.spec.ID)
	q.A = int32(signal)
	_, err := ask(ctx, c.sandbox.run, q)
	if errors.Is(err, unix.ESRCH) {
		return nil // it has ended; the notice is on its way
	}
	return err
}

// StopContainer signals, waits and kills.
func (r *Runtime) StopContainer(ctx context.Context, id string, stop runtime.Stop) error {
	c, err := r.container(id)
	if err != nil {
		return fmt.Errorf("cannot stop: %w", err)
	}
	r.mu.RLock()
	state := c.status.State
	r.mu.RUnlock()
	if state != runtime.StateRunning {
		return nil
	}
	if err := r.stop(ctx, c, stop); err != nil {
		return fmt.Errorf("cannot stop container %s: %w", id, err)
	}
	return nil
}

func (r *Runtime) stop(ctx context.Context, c *container, stop runtime.Stop) error {
	if stop.Grace > 0 {
		signal := stop.Signal
		if signal == 0 {
			signal = c.spec.StopSignal
		}
		if signal == 0 {
			signal = int(unix.SIGTERM)
		}
		if err := r.signal(ctx, c, signal); err != nil {
			return err
		}
		timer := time.NewTimer(stop.Grace)
		defer timer.Stop()
		select {
		case <-c.gone:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
	}
	if err := r.signal(ctx, c, int(unix.SIGKILL)); err != nil {
		return err
	}
	select {
	case <-c.gone:
	case <-ctx.Done():
		return ctx.Err()
	}
	if !c.sandbox.ownPID() || c.spec.TargetID != "" {
		return r.tree.Kill(cgroupOf(c.sandbox, c.spec.ID), 10*time.Second)
	}
	return nil
}

// RemoveContainer removes an exited container with its writable layer.
func (r *Runtime) RemoveContainer(_ context.Context, id string) error {
	c, err := r.container(id)
	if err != nil {
		return nil
	}
	s := c.sandbox
	s.op.Lock()
	defer s.op.Unlock()
	r.mu.RLock()
	state, known := c.status.State, r.containers[id] == c
	r.mu.RUnlock()
	if !known {
		return nil
	}
	if state == runtime.StateRunning {
		return fmt.Errorf("cannot remove container %s: it %w", id, runtime.ErrRunning)
	}
	cg := cgroupOf(s, id)
	var errs []error
	if r.tree.Exists(cg) {
		errs = append(errs, r.tree.Kill(cg, 10*time.Second), r.tree.Remove(cg))
	}
	errs = append(errs, removeTree(r.dirs.containerRun(s.spec.UID, id)))
	// The description last, so that what is left is found again.
	data := r.dirs.containerData(s.spec.UID, id)
	for _, d := range []string{"upper", "work"} {
		errs = append(errs, removeTree(filepath.Join(data, d)))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot remove container %s: %w", id, err)
	}
	if err := removeTree(data); err != nil {
		return fmt.Errorf("cannot remove container %s: %w", id, err)
	}
	r.forget(c)
	r.mu.RLock()
	defer r.mu.RUnlock()
	r.emit(runtime.EventRemoved, s.spec.UID, c.status)
	return nil
}

// UpdateResources changes the limits of a running container.
func (r *Runtime) UpdateResources(_ context.Context, id string, res runtime.Resources) error {
	c, err := r.running(id)
	if err != nil {
		return fmt.Errorf("cannot update resources: %w", err)
	}
	if err := r.tree.Apply(cgroupOf(c.sandbox, id), res); err != nil {
		return fmt.Errorf("cannot update resources of container %s: %w", id, err)
	}
	return nil
}

// ReopenLog makes the shim write to a new file.
func (r *Runtime) ReopenLog(ctx context.Context, id string) error {
	c, err := r.running(id)
	if err != nil {
		return fmt.Errorf("cannot reopen the log: %w", err)
	}
	fd, err := openLog(c.spec.LogPath)
	if err != nil {
		return err
	}
	q := newRequest(reqReopen, id)
	defer q.close()
	if fd >= 0 {
		q.Log = q.own(fd)
	}
	if _, err := ask(ctx, c.sandbox.run, q); err != nil {
		return fmt.Errorf("cannot reopen the log of container %s: %w", id, err)
	}
	return nil
}

// ResizeTTY sets the size of the container's terminal.
func (r *Runtime) ResizeTTY(ctx context.Context, id string, size runtime.TerminalSize) error {
	c, err := r.running(id)
	if err != nil {
		return fmt.Errorf("cannot resize: %w", err)
	}
	q := newRequest(reqResize, id)
	q.A, q.B = int32(size.Width), int32(size.Height)
	if _, err := ask(ctx, c.sandbox.run, q); err != nil {
		return fmt.Errorf("cannot resize the terminal of container %s: %w", id, err)
	}
	return nil
}
