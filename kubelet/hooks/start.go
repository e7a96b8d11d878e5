package hooks

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sagong/runtime"
)

// startStep guarantees that the container's process runs. When it cannot, the
// runtime keeps an ended attempt with exit code 128 that says why.
type startStep struct{ s *Steps }

func (startStep) Name() string { return "start" }

func (t startStep) Do(ctx context.Context, r *Run) error {
	leave, err := t.s.enter(ctx)
	if err != nil {
		return err
	}
	started, err := t.s.Runtime.StartContainer(ctx, r.ID)
	leave()
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t.s.event(r, corev1.EventTypeWarning, "Failed", "Error: %v", err)
		f := &Failure{Reason: "RunContainerError", Message: err.Error(), Err: err}
		if se := (*runtime.StartError)(nil); !errors.As(err, &se) {
			f.RetryAfter = 10 * time.Second
		}
		return f
	}
	r.Started = started
	t.s.event(r, corev1.EventTypeNormal, "Started", "Container started")
	if r.OnStarted != nil {
		r.OnStarted()
	}
	return nil
}

// postStartStep guarantees that the post-start hook has succeeded; when it
// fails the container is stopped, to be restarted by the pod's policy.
type postStartStep struct{ s *Steps }

func (postStartStep) Name() string { return "postStart" }

func (h postStartStep) Do(ctx context.Context, r *Run) error {
	if r.Member.Lifecycle == nil || r.Member.Lifecycle.PostStart == nil {
		return nil
	}
	err := h.s.handler(ctx, r.Pod.Pod, r.Pod.IPs, r.Member, r.ID, r.Member.Lifecycle.PostStart)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// The hook's output may hold secrets: it goes to the log, not to the event.
	h.s.Log.Warn("post-start hook failed", "pod", IdentOf(r.Pod.Pod).String(), "container", r.Member.Name, "err", err)
	h.s.event(r, corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
	grace := 30 * time.Second
	if g := r.Pod.Spec.TerminationGracePeriodSeconds; g != nil {
		grace = time.Duration(*g) * time.Second
	}
	h.s.event(r, corev1.EventTypeNormal, "Killing", "FailedPostStartHook")
	if kerr := h.s.Stop(ctx, StopRequest{Pod: r.Pod.Pod, IPs: r.Pod.IPs, Member: r.Member, ID: r.ID, By: time.Now().Add(grace)}); kerr != nil {
		err = errors.Join(err, kerr)
	}
	return &Failure{Reason: "PostStartHookError", Message: err.Error(), Err: err}
}
