package native

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

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
	if err := unix.Listen(fd, 1024); err != nil {
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
