// Package native is the built-in container runtime. It implements the contract
// of package runtime on Linux with its own C code (shim.c, child.c), which is
// compiled into the same binary and runs before the Go runtime starts: a shim
// for each pod, which clones the pod's containers. All decisions are made in Go
// (planner.go); C carries out a plan.
//
// Any program that imports this package becomes able to be a shim: it must be
// built with cgo, and be linked statically to run from any mount namespace.
package native

// #cgo CFLAGS: -O2 -Wall -Wextra
import "C"

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sagong/lib/cgroup"
	"sagong/runtime"
)

// Options configure the runtime.
type Options struct {
	// DataDir is where the runtime keeps descriptions and writable layers, on a
	// disk file system; RunDir where it keeps sockets and pins, best on tmpfs.
	// Runtimes with different directories and cgroup roots live side by side.
	DataDir, RunDir string
	// CgroupRoot holds all cgroups of this runtime, such as "/sagong-demo".
	CgroupRoot string
	// Cgroups overrides the detected layout.
	Cgroups *cgroup.Layout
	// Version is shown by Name.
	Version string
	Log     *slog.Logger
}

// Runtime is the native runtime; it implements runtime.Runtime.
type Runtime struct {
	opts   Options
	log    *slog.Logger
	dirs   dirs
	bootID string
	tree   *cgroup.Tree
	exe    *os.File
	lean   *os.File
	// Locks of both directories.
	lock, dataLock *os.File
	null           *os.File
	filters        filterCache
	sealer         sealer
	watch          *watcher
	events         *eventQueue
	oomOnce        sync.Once

	// life ends with Close; wg waits for the goroutines that outlive a call.
	life context.Context
	end  context.CancelFunc
	wg   sync.WaitGroup

	// mu guards the maps and all fields of sandboxes and containers that are
	// not said to be constant.
	mu         sync.RWMutex
	sandboxes  map[string]*sandbox
	containers map[string]*container
	// adopted is set once what an earlier process left is known; from then on
	// there are events.
	adopted, closed bool
}

var _ runtime.Runtime = (*Runtime)(nil)

// Open starts the runtime on its directories and adopts what runs there.
func Open(opts Options) (*Runtime, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []string{opts.DataDir, opts.RunDir} {
		if !filepath.IsAbs(d) {
			return nil, fmt.Errorf("cannot open the runtime: directory %q must be absolute", d)
		}
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("cannot open the runtime: only root may make containers; run as root")
	}
	r := &Runtime{opts: opts, log: opts.Log, dirs: newDirs(opts.DataDir, opts.RunDir),
		sandboxes: map[string]*sandbox{}, containers: map[string]*container{}, events: newEventQueue()}
	r.life, r.end = context.WithCancel(context.Background())
	if err := r.open(); err != nil {
		r.release()
		return nil, fmt.Errorf("cannot open the runtime: %w", err)
	}
	return r, nil
}

func (r *Runtime) open() error {
	for _, d := range []string{r.dirs.data, r.dirs.run, r.dirs.pods()} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return err
		}
	}
	var err error
	if r.dataLock, err = lockDir(r.dirs.data); err != nil {
		return err
	}
	if err := r.dirs.mountRun(); err != nil {
		return err
	}
	if r.lock, err = lockDir(r.dirs.run); err != nil {
		return err
	}
	if r.sealer, err = openSealer(filepath.Join(r.dirs.run, "key")); err != nil {
		return err
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	r.bootID = strings.TrimSpace(string(id))
	layout := r.opts.Cgroups
	if layout == nil {
		l, err := cgroup.Detect()
		if err != nil {
			return err
		}
		layout = &l
	}
	if r.tree, err = cgroup.Open(*layout, r.opts.CgroupRoot); err != nil {
		return err
	}
	if err := r.tree.Create(shimCgroup); err != nil {
		return err
	}
	if r.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return err
	}
	r.null.Fd() // makes it blocking, once
	exe, err := readOnlySelf()
	if err != nil {
		return err
	}
	// Descriptors given to a shim take the low numbers; this one must survive
	// until the exec.
	fd, err := unix.FcntlInt(exe.Fd(), unix.F_DUPFD_CLOEXEC, 128)
	exe.Close()
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	r.exe = os.NewFile(uintptr(fd), "exe")
	if r.lean, err = leanNamespace(filepath.Join(r.dirs.run, "lean")); err != nil {
		return err
	}
	if r.watch, err = newWatcher(r.dirs.run); err != nil {
		return err
	}
	// The socket for notices exists from here on, so that an exit is either
	// seen by adopt or told.
	if err := r.adopt(); err != nil {
		return err
	}
	r.mu.Lock()
	r.adopted = true
	r.mu.Unlock()
	r.wg.Go(func() { r.watch.notices(r.noteExit) })
	r.wg.Go(func() { r.watch.exits(r.noteShimGone) })
	return nil
}

// lockDir makes sure that one runtime at a time works on a directory.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// A process that was killed while it started a shim leaves its lock to the
	// child for the moment until that executes.
	for wait := time.Millisecond; ; wait *= 2 {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if wait > 200*time.Millisecond {
			f.Close()
			return nil, fmt.Errorf("another process uses %s: %w", dir, err)
		}
		time.Sleep(wait)
	}
}

// Name is "sagong://" and the version.
func (r *Runtime) Name() string {
	v := r.opts.Version
	if v == "" {
		v = "0"
	}
	return "sagong://" + v
}

// Close stops watching; everything that runs goes on.
func (r *Runtime) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	r.mu.Unlock()
	r.release()
	return nil
}

func (r *Runtime) release() {
	r.end()
	if r.watch != nil {
		r.watch.close()
	}
	r.wg.Wait()
	if r.watch != nil {
		r.watch.release()
	}
	r.events.close()
	for _, f := range []*os.File{r.exe, r.lean, r.null, r.lock, r.dataLock} {
		if f != nil {
			f.Close()
		}
	}
}

// Events is the stream of what happens.
func (r *Runtime) Events() <-chan runtime.Event { return r.events.out }

// emit is called with mu held.
func (r *Runtime) emit(t runtime.EventType, uid string, s runtime.ContainerStatus) {
	if !r.adopted {
		return
	}
	r.events.add(runtime.Event{Type: t, SandboxUID: uid, ContainerID: s.ID, Container: s, At: time.Now()})
}

// List is every sandbox with its containers.
func (r *Runtime) List(context.Context) ([]runtime.SandboxStatus, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]runtime.SandboxStatus, 0, len(r.sandboxes))
	for _, s := range r.sandboxes {
		out = append(out, s.status())
	}
	return out, nil
}

// Status is one container.
func (r *Runtime) Status(_ context.Context, id string) (runtime.ContainerStatus, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c, ok := r.containers[id]
	if !ok {
		return runtime.ContainerStatus{}, fmt.Errorf("container %s: %w", id, runtime.ErrNotFound)
	}
	return c.status, nil
}

// sandbox finds one by UID.
func (r *Runtime) sandbox(uid string) (*sandbox, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s, ok := r.sandboxes[uid]
	if !ok {
		return nil, fmt.Errorf("sandbox %s: %w", uid, runtime.ErrNotFound)
	}
	return s, nil
}

// container finds one by id, with its sandbox.
func (r *Runtime) container(id string) (*container, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c, ok := r.containers[id]
	if !ok {
		return nil, fmt.Errorf("container %s: %w", id, runtime.ErrNotFound)
	}
	return c, nil
}

// running finds a container that runs.
func (r *Runtime) running(id string) (*container, error) {
	c, err := r.container(id)
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if c.status.State != runtime.StateRunning {
		return nil, fmt.Errorf("container %s %w", id, runtime.ErrNotRunning)
	}
	return c, nil
}
