package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sagong/lib/cgroup"
	"sagong/runtime"
)

// shimCgroup holds the shims, apart from the pods that they keep.
const shimCgroup = "shims"

// pauseID names the first process of a shared PID namespace.
const pauseID = "pause"

// sandbox is what the runtime knows of a pod.
type sandbox struct {
	// op orders the calls for this sandbox.
	op sync.Mutex
	// spec, created and dirs are constant.
	spec    runtime.Sandbox
	created time.Time
	run     string

	// Guarded by Runtime.mu.
	shim       process
	ready      bool
	removing   bool
	containers []*container
}

func (s *sandbox) status() runtime.SandboxStatus {
	st := runtime.SandboxStatus{Sandbox: s.spec, Ready: s.ready, CreatedAt: s.created, NetNSPath: s.netns()}
	for _, c := range s.containers {
		st.Containers = append(st.Containers, c.status)
	}
	return st
}

func (s *sandbox) netns() string {
	if s.spec.HostNetwork {
		return ""
	}
	return filepath.Join(s.run, "ns", "net")
}

// ownPID says whether each container has a PID namespace of its own, whose end
// ends all its processes.
func (s *sandbox) ownPID() bool { return !s.spec.HostPID && !s.spec.ShareProcessNamespace }

func checkSandbox(s runtime.Sandbox) error {
	if err := checkID("pod UID", s.UID); err != nil {
		return err
	}
	if s.UserNamespace {
		return fmt.Errorf("a user namespace for the pod (hostUsers: false) is %w by the built-in runtime", runtime.ErrUnsupported)
	}
	if err := cgroup.CheckPath(s.CgroupParent); err != nil {
		return err
	}
	if len(s.Hostname) > 64 || len(s.Domainname) > 64 {
		return fmt.Errorf("hostname %q is longer than 64 bytes", s.Hostname)
	}
	if s.HostPID && s.ShareProcessNamespace {
		return errors.New("a pod cannot share the host's PID namespace and one of its own")
	}
	for name := range s.Sysctls {
		if err := checkSysctl(s, name); err != nil {
			return err
		}
	}
	return nil
}

// checkSysctl refuses parameters that are not the pod's own.
func checkSysctl(s runtime.Sandbox, name string) error {
	dotted := strings.ReplaceAll(name, "/", ".")
	if strings.Contains(dotted, "..") {
		return fmt.Errorf("malformed sysctl %q", name)
	}
	switch {
	case strings.HasPrefix(dotted, "net."):
		if s.HostNetwork {
			return fmt.Errorf("sysctl %q is not allowed on the host's network", name)
		}
	case strings.HasPrefix(dotted, "fs.mqueue."), strings.HasPrefix(dotted, "kernel.shm"),
		strings.HasPrefix(dotted, "kernel.msg"), dotted == "kernel.sem":
		if s.HostIPC {
			return fmt.Errorf("sysctl %q is not allowed with the host's IPC namespace", name)
		}
	case dotted == "kernel.domainname", dotted == "kernel.hostname":
		return fmt.Errorf("sysctl %q is set by the pod's hostname", name)
	default:
		return fmt.Errorf("sysctl %q is not namespaced", name)
	}
	return nil
}

// CreateSandbox makes the namespaces, the cgroup and the shim of a pod.
func (r *Runtime) CreateSandbox(ctx context.Context, spec runtime.Sandbox) error {
	if err := checkSandbox(spec); err != nil {
		return fmt.Errorf("cannot create sandbox: %w", err)
	}
	r.mu.Lock()
	old := r.sandboxes[spec.UID]
	if old != nil && old.ready {
		r.mu.Unlock()
		old.op.Lock() // it may just be under way
		defer old.op.Unlock()
		r.mu.RLock()
		defer r.mu.RUnlock()
		if r.sandboxes[spec.UID] == old && old.ready {
			return nil
		}
		return fmt.Errorf("cannot create sandbox %s: an earlier one has just failed", spec.UID)
	}
	r.mu.Unlock()
	if old != nil {
		if err := r.RemoveSandbox(ctx, spec.UID); err != nil {
			return err
		}
	}
	s := &sandbox{spec: spec, created: time.Now(), run: r.dirs.podRun(spec.UID), ready: true}
	s.op.Lock()
	defer s.op.Unlock()
	r.mu.Lock()
	if r.sandboxes[spec.UID] != nil {
		r.mu.Unlock()
		return fmt.Errorf("cannot create sandbox %s: %w", spec.UID, runtime.ErrExists)
	}
	r.sandboxes[spec.UID] = s
	r.mu.Unlock()
	if err := r.createSandbox(ctx, s); err != nil {
		r.mu.Lock()
		s.ready = false
		r.mu.Unlock()
		// What there is of it is taken away; the caller tries again from nothing.
		if rerr := r.removeSandbox(s); rerr != nil {
			r.log.Error("cannot clean up after a failed sandbox", "uid", spec.UID, "err", rerr)
		}
		return fmt.Errorf("cannot create sandbox %s: %w", spec.UID, err)
	}
	return nil
}

func (r *Runtime) createSandbox(ctx context.Context, s *sandbox) error {
	if err := os.MkdirAll(filepath.Join(r.dirs.podData(s.spec.UID), "c"), 0o711); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(s.run, "c"), 0o700); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(r.dirs.podData(s.spec.UID), "pod.json"), podFile{s.spec, s.created}); err != nil {
		return err
	}
	if err := r.tree.CreateParent(s.spec.CgroupParent); err != nil {
		return err
	}
	if err := r.tree.Apply(s.spec.CgroupParent, s.spec.Resources); err != nil {
		return err
	}
	shim, pidfd, err := r.spawnShim(ctx, s)
	if err != nil {
		return err
	}
	r.mu.Lock()
	s.shim = shim
	r.mu.Unlock()
	// Before it is watched: a shim that is recorded is found again.
	f := shimFile{shim, r.bootID}
	if err := os.WriteFile(filepath.Join(s.run, "shim"), []byte(f.String()), 0o600); err != nil {
		unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		unix.Close(pidfd)
		return err
	}
	if err := r.watch.add(pidfd, s.spec.UID); err != nil {
		return err
	}
	if !s.spec.HostNetwork {
		if err := pinNetNS(shim.PID, s.netns()); err != nil {
			return err
		}
	}
	if s.spec.ShareProcessNamespace {
		return r.startPause(ctx, s)
	}
	return nil
}

// pinNetNS keeps a network namespace alive by a mount, under a path by which
// the network is set up and found again.
func pinNetNS(pid int, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	if err := unix.Mount("/proc/"+strconv.Itoa(pid)+"/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot pin the network namespace: %w", err)
	}
	return nil
}

// The descriptors of a shim at its start, as in shim.c.
const (
	bootNet = 1
	bootIPC = 2
	bootUTS = 4
)

func (r *Runtime) bootPlan(s *sandbox, joins int) []byte {
	var e encoder
	flags := uint32(0)
	if !s.spec.HostNetwork {
		flags |= bootNet
	}
	if !s.spec.HostIPC {
		flags |= bootIPC
	}
	if s.spec.Hostname != "" {
		flags |= bootUTS
	}
	shm := s.spec.ShmSize
	if shm <= 0 {
		shm = 64 << 20
	}
	e.u32(flags)
	e.str(s.spec.UID)
	e.str(s.spec.Hostname)
	e.str(s.spec.Domainname)
	e.str("mode=1777,size=" + strconv.FormatInt(shm, 10))
	e.u32(uint32(joins))
	names := sortedKeys(s.spec.Sysctls)
	e.u32(uint32(len(names)))
	for _, n := range names {
		e.str(sysctlPath(n))
		e.str(s.spec.Sysctls[n])
	}
	return e.b
}

// sysctlPath is a parameter's path below /proc/sys. Names come with dots or,
// where a part has a dot itself (an interface), with slashes.
func sysctlPath(name string) string {
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '/' {
		return name
	}
	return strings.ReplaceAll(name, ".", "/")
}

// spawnShim starts the shim and waits until the pod's namespaces exist.
func (r *Runtime) spawnShim(ctx context.Context, s *sandbox) (process, int, error) {
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	var owned []int
	defer func() {
		for _, fd := range owned {
			unix.Close(fd)
		}
	}()
	joins, err := r.tree.TrackingFDs(shimCgroup)
	if err != nil {
		return process{}, -1, err
	}
	owned = append(owned, joins...)
	boot, err := memfd("sagong-sandbox", r.bootPlan(s, len(joins)))
	if err != nil {
		return process{}, -1, err
	}
	owned = append(owned, boot)
	sock, err := listenShim(s.run)
	if err != nil {
		return process{}, -1, err
	}
	owned = append(owned, sock)
	ready, readyW, err := os.Pipe()
	if err != nil {
		return process{}, -1, err
	}
	defer ready.Close()
	files = append(files, readyW)

	n := r.null.Fd()
	pidfd := -1
	attr := &syscall.ProcAttr{
		Env:   []string{"_SAGONG_PERSONALITY=shim"},
		Files: []uintptr{n, n, n, uintptr(boot), uintptr(sock), readyW.Fd(), r.watch.runDir.Fd(), r.lean.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
	}
	for _, j := range joins {
		attr.Files = append(attr.Files, uintptr(j))
	}
	dir, err := r.tree.DirFD(shimCgroup)
	if err != nil {
		return process{}, -1, err
	}
	if dir >= 0 {
		owned = append(owned, dir)
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, dir
	}
	args := []string{"sagong-shim", s.spec.UID, s.spec.Namespace + "/" + s.spec.Name}
	pid, err := syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(int(r.exe.Fd())), args, attr)
	if err != nil {
		return process{}, -1, fmt.Errorf("cannot start the shim: %w", err)
	}
	readyW.Close()
	undo := context.AfterFunc(ctx, func() { ready.SetReadDeadline(time.Unix(1, 0)) })
	defer undo()
	msg, err := io.ReadAll(ready)
	if err == nil && string(msg) != "R" {
		err = fmt.Errorf("cannot start the shim: %s", msg)
	}
	if err != nil {
		unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		var si unix.Siginfo
		unix.Waitid(unix.P_PIDFD, pidfd, &si, unix.WEXITED, nil)
		unix.Close(pidfd)
		return process{}, -1, ctxErr(ctx, err)
	}
	return process{pid, startTicks(pid)}, pidfd, nil
}

// listenShim makes the socket of a shim. It exists before the shim does, so
// that nobody has to wait for it.
func listenShim(dir string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := bindShim(fd, dir); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func bindShim(fd int, dir string) error {
	path := filepath.Join(dir, "shim.sock")
	if len(path) > maxSocketPath {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer d.Close()
		path = "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/shim.sock"
	}
	err := unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	if err == unix.EADDRINUSE {
		if err = unix.Unlink(path); err == nil {
			err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
		}
	}
	if err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, 128); err != nil {
		return os.NewSyscallError("listen", err)
	}
	return nil
}

// startPause makes the shared PID namespace.
func (r *Runtime) startPause(ctx context.Context, s *sandbox) error {
	path := s.spec.CgroupParent + "/" + pauseID
	if err := r.tree.Create(path); err != nil {
		return err
	}
	q := newRequest(reqPause, pauseID)
	q.CloneFlags = unix.CLONE_NEWPID | unix.CLONE_NEWNS
	defer q.close()
	if err := r.joinRequest(q, path); err != nil {
		return err
	}
	q.A = int32(len(q.fds))
	dir, err := r.tree.DirFD(path)
	if err != nil {
		return err
	}
	if dir >= 0 {
		q.Cgroup = q.own(dir)
	}
	_, err = ask(ctx, s.run, q)
	return err
}

// joinRequest adds what a child needs to join a version 1 cgroup: the first
// descriptors.
func (r *Runtime) joinRequest(q *request, path string) error {
	fds, err := r.tree.JoinFDs(path)
	for _, fd := range fds {
		q.own(fd)
	}
	return err
}

// NetNSPath is where the pod's network namespace is pinned.
func (r *Runtime) NetNSPath(uid string) (string, error) {
	s, err := r.sandbox(uid)
	if err != nil {
		return "", err
	}
	return s.netns(), nil
}

// UpdateSandbox changes the limits of the pod's cgroup.
func (r *Runtime) UpdateSandbox(_ context.Context, uid string, res runtime.Resources) error {
	s, err := r.sandbox(uid)
	if err != nil {
		return err
	}
	s.op.Lock()
	defer s.op.Unlock()
	if err := r.tree.Apply(s.spec.CgroupParent, res); err != nil {
		return fmt.Errorf("cannot update sandbox %s: %w", uid, err)
	}
	return nil
}

// RemoveSandbox kills and removes all of a pod.
func (r *Runtime) RemoveSandbox(ctx context.Context, uid string) error {
	if err := checkID("pod UID", uid); err != nil {
		return fmt.Errorf("cannot remove sandbox: %w", err)
	}
	r.mu.Lock()
	s := r.sandboxes[uid]
	if s == nil {
		r.mu.Unlock()
		return nil
	}
	s.removing = true
	r.mu.Unlock()
	s.op.Lock()
	defer s.op.Unlock()
	if err := r.removeSandbox(s); err != nil {
		return fmt.Errorf("cannot remove sandbox %s: %w", uid, err)
	}
	return nil
}

// removeSandbox goes on after errors, so that one thing left behind is not ten.
// The description goes last: as long as anything is left it is found again.
func (r *Runtime) removeSandbox(s *sandbox) error {
	r.mu.Lock()
	s.removing, s.ready = true, false
	shim := s.shim
	r.mu.Unlock()
	var errs []error
	keep := func(err error) { errs = append(errs, err) }
	keep(endShim(s.run, shim))
	if s.spec.CgroupParent != "" {
		if r.tree.Exists(s.spec.CgroupParent) {
			keep(r.tree.Kill(s.spec.CgroupParent, 10*time.Second))
		}
		keep(r.tree.Remove(s.spec.CgroupParent))
	}
	// Exits recorded by the shim just now.
	r.mu.RLock()
	containers := slices.Clone(s.containers)
	r.mu.RUnlock()
	for _, c := range containers {
		r.settle(c)
	}
	keep(unpin(s.netns()))
	if errors.Join(errs...) == nil {
		keep(removeTree(s.run))
	}
	if errors.Join(errs...) == nil {
		keep(removeTree(r.dirs.podData(s.spec.UID)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range s.containers {
		delete(r.containers, c.spec.ID)
		r.emit(runtime.EventRemoved, s.spec.UID, c.status)
	}
	if r.sandboxes[s.spec.UID] == s {
		delete(r.sandboxes, s.spec.UID)
	}
	return nil
}

// endShim ends the shim of a sandbox. One that was started but not recorded,
// because the server was killed in between, is found by its socket.
func endShim(dir string, p process) error {
	if p.alive() {
		return stopShim(dir, p)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := ask(ctx, dir, newRequest(reqShutdown, ""))
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the shim of %s does not answer", dir)
	}
	return nil // nobody listens
}

// stopShim asks the shim to kill its containers and end, and kills it when it
// does not.
func stopShim(dir string, p process) error {
	pidfd, err := unix.PidfdOpen(p.PID, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	if !p.alive() { // the number was used again before it was opened
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := ask(ctx, dir, newRequest(reqShutdown, "")); err != nil {
		if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
			return fmt.Errorf("cannot kill the shim: %w", err)
		}
	}
	return waitPidfd(pidfd, 10*time.Second)
}

// waitPidfd waits until a process has ended.
func waitPidfd(pidfd int, wait time.Duration) error {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	deadline := time.Now().Add(wait)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("a process has not ended after %v", wait)
		}
		n, err := unix.Poll(fds, int(left/time.Millisecond)+1)
		if n > 0 {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
	}
}

// unpin removes the mount that pins a namespace.
func unpin(path string) error {
	if path == "" {
		return nil
	}
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err == unix.EINVAL || err == unix.ENOENT {
			return nil // not a mount, or no longer
		}
		if err != nil {
			return &os.PathError{Op: "umount", Path: path, Err: err}
		}
	}
}

// removeTree removes a directory with all it holds, and never crosses into
// another mount: a bind that could not be unmounted must not cost its source.
func removeTree(dir string) error {
	parent, err := unix.Open(filepath.Dir(dir), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Dir(dir), Err: err}
	}
	defer unix.Close(parent)
	return removeAt(parent, filepath.Base(dir), dir)
}

func removeAt(parent int, name, full string) error {
	err := unix.Unlinkat(parent, name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR && err != unix.EPERM {
		return &os.PathError{Op: "remove", Path: full, Err: err}
	}
	if err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); err == nil || err == unix.ENOENT {
		return nil
	}
	fd, err := unix.Openat2(parent, name, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_BENEATH})
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "remove", Path: full, Err: err}
	}
	d := os.NewFile(uintptr(fd), full)
	defer d.Close()
	for {
		names, err := d.Readdirnames(512)
		for _, n := range names {
			if err := removeAt(fd, n, filepath.Join(full, n)); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		// Removing while reading may skip entries.
		if _, err := d.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	if err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "remove", Path: full, Err: err}
	}
	return nil
}

// noteShimGone is told of the end of every shim.
func (r *Runtime) noteShimGone(uid string) {
	r.mu.Lock()
	s := r.sandboxes[uid]
	if s == nil || s.removing || !s.ready || s.shim.alive() {
		r.mu.Unlock()
		return
	}
	s.ready = false
	r.mu.Unlock()
	r.wg.Go(func() { r.loseSandbox(s) })
}

// loseSandbox settles what has become of a sandbox whose shim has died.
func (r *Runtime) loseSandbox(s *sandbox) {
	uid := s.spec.UID
	r.log.Warn("the keeper of a pod has died and its containers with it", "uid", uid, "pod", s.spec.Namespace+"/"+s.spec.Name)
	// The kernel kills them, unless their credentials had changed.
	if err := r.tree.Kill(s.spec.CgroupParent, 10*time.Second); err != nil {
		r.log.Error("cannot kill the containers of a pod without keeper", "uid", uid, "err", err)
	}
	r.mu.RLock()
	containers := slices.Clone(s.containers)
	r.mu.RUnlock()
	for _, c := range containers {
		r.settle(c)
	}
	r.events.add(runtime.Event{Type: runtime.EventSandboxLost, SandboxUID: uid, At: time.Now()})
}

// cgroupOf is the cgroup of a container.
func cgroupOf(s *sandbox, id string) string { return s.spec.CgroupParent + "/" + id }
