package native

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

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
		err = r.describe(dir, containerFile{Container: spec, CreatedAt: c.status.CreatedAt})
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

// describe writes the description of a container into its directory.
func (r *Runtime) describe(dir string, f containerFile) error {
	f, err := r.sealer.seal(f)
	if err != nil {
		return err
	}
	return writeJSON(filepath.Join(dir, "config.json"), f)
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
