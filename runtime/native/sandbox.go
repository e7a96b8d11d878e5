package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
	f := shimFile{shim, r.bootID, protocol}
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
