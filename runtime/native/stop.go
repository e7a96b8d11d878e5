package native

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"sagong/runtime"
)

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
	if errors.Is(err, runtime.ErrNotRunning) {
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
