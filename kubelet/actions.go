package kubelet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/kubelet/hooks"
	"sagong/kubelet/pod"
	"sagong/kubelet/reference"
	"sagong/kubelet/volume"
	"sagong/runtime"
)

// attemptID names one attempt at running a container of a pod. It follows from
// these three, so that the same attempt can never be made twice, not even by
// an agent that lost its memory in between.
func attemptID(uid, container string, attempt int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d", uid, container, attempt))
	return hex.EncodeToString(sum[:])
}

// retryDelay grows from half a second to two minutes, as upstream's does for
// volumes.
func retryDelay(failures int) time.Duration {
	return min(500*time.Millisecond<<min(failures, 8), 122*time.Second)
}

// prepare marks an action as under way and returns what does it, or nil when
// it is under way already. e.mu is held; what is returned runs without it.
func (a *Agent) prepare(e *entry, act pod.Action, now time.Time) func() {
	key := act.Kind.String() + "/" + act.Container + "/" + act.ID
	if act.Kind != pod.Stop {
		if e.inFlight[key] {
			return nil
		}
		e.inFlight[key] = true
	}
	a.log.Debug("action", "pod", e.uid, "what", act.Kind, "container", act.Container, "attempt", act.Attempt)
	done := func(f func()) func() {
		f = a.metrics.worked(act.Kind, f)
		return func() {
			f()
			e.mu.Lock()
			delete(e.inFlight, key)
			e.mu.Unlock()
			a.queue.Add(e.uid)
		}
	}
	switch act.Kind {
	case pod.SetUp:
		e.obs.Sandbox.State, e.setUpAt = pod.SandboxSettingUp, now
		ctx, cancel := context.WithCancel(a.ctx)
		e.cancels[""] = cancel
		hp := e.hookPod()
		return done(func() { defer cancel(); a.setUp(ctx, e, hp) })
	case pod.Start:
		m, ok := pod.Find(e.pod, act.Container)
		if !ok {
			delete(e.inFlight, key)
			return nil
		}
		c := e.container(act.Container)
		c.Starting = true
		ctx, cancel := context.WithCancel(a.ctx)
		e.cancels[act.Container] = cancel
		return done(func() { defer cancel(); a.start(ctx, e, m, act) })
	case pod.Cancel:
		delete(e.inFlight, key)
		if cancel := e.cancels[act.Container]; cancel != nil {
			cancel()
		}
		return nil
	case pod.Stop:
		m, ok := pod.Find(e.pod, act.Container)
		if !ok {
			m = pod.Member{Container: &corev1.Container{Name: act.Container}}
		}
		c := e.container(act.Container)
		first := c.StopBy.IsZero()
		c.StopBy = act.By
		if at := e.attempt(act.Container, act.ID); at != nil && act.Restart {
			at.Killed = true
		}
		if first {
			a.dep.Recorder.EventForField(e.pod, m.FieldPath, corev1.EventTypeNormal, "Killing", "%s", act.Message)
		}
		q := hooks.StopRequest{Pod: e.pod, IPs: e.obs.Sandbox.IPs, Member: m, ID: act.ID, By: act.By}
		return a.metrics.worked(act.Kind, func() { a.stop(e, q) })
	case pod.Remove:
		return done(func() { a.remove(e, act) })
	case pod.Reset:
		e.obs.Sandbox.State = pod.SandboxTearingDown
		return done(func() { a.reset(e) })
	case pod.TearDown:
		e.obs.Sandbox.State = pod.SandboxTearingDown
		return done(func() { a.tearDown(e) })
	case pod.Delete:
		delete(e.inFlight, key)
		e.obs.Deleting = true
		a.writer.remove(e)
		return nil
	case pod.Forget:
		return done(func() { a.forget(e) })
	case pod.Resize:
		return done(func() { a.resize(e, act) })
	}
	delete(e.inFlight, key)
	return nil
}

// setUp makes volumes, sandbox and network.
func (a *Agent) setUp(ctx context.Context, e *entry, hp *hooks.Pod) {
	e.volumes.Lock()
	err := a.steps.SetUp(ctx, hp)
	e.volumes.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.cancels, "")
	sb := &e.obs.Sandbox
	sb.Leftovers = true
	if err == nil {
		e.failures, e.refresh = 0, false
		e.paths, e.netns = hp.Paths, hp.NetNS
		sb.State, sb.IPs, sb.RetryAt, sb.Resources = pod.SandboxReady, hp.IPs, time.Time{}, hp.Pod.Spec.Resources.DeepCopy()
		a.armRefresh(e)
		return
	}
	sb.State = pod.SandboxNone
	if ctx.Err() != nil {
		return
	}
	sb.RetryAt = time.Now().Add(retryDelay(e.failures))
	e.failures++
	a.log.Warn("cannot set up pod", "pod", e.String(), "err", err)
	a.reportSetUp(e, err)
}

// reportSetUp turns what went wrong into events.
func (a *Agent) reportSetUp(e *entry, err error) {
	var se *hooks.SandboxError
	if errors.As(err, &se) {
		a.dep.Recorder.Eventf(e.pod, corev1.EventTypeWarning, "FailedCreatePodSandBox", "%s", se.Error())
		return
	}
	var de *hooks.DevicesError
	if errors.As(err, &de) {
		a.dep.Recorder.Eventf(e.pod, corev1.EventTypeWarning, "FailedPrepareDynamicResources", "%s", de.Error())
		return
	}
	found := false
	for _, ve := range volumeErrors(err) {
		a.dep.Recorder.Eventf(e.pod, corev1.EventTypeWarning, "FailedMount", "%s", ve.Error())
		found = true
	}
	if !found {
		a.dep.Recorder.Eventf(e.pod, corev1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: %v", err)
	}
}

// volumeErrors finds every *volume.Error in a tree of errors.
func volumeErrors(err error) []*volume.Error {
	switch x := err.(type) {
	case nil:
		return nil
	case *volume.Error:
		return []*volume.Error{x}
	case interface{ Unwrap() []error }:
		var out []*volume.Error
		for _, u := range x.Unwrap() {
			out = append(out, volumeErrors(u)...)
		}
		return out
	}
	return volumeErrors(errors.Unwrap(err))
}

// mounted makes sure, for a pod taken over from an earlier agent, that the
// places of its volumes are known.
func (a *Agent) mounted(ctx context.Context, e *entry) (*hooks.Pod, error) {
	e.mu.Lock()
	hp := e.hookPod()
	e.mu.Unlock()
	if hp.Paths != nil || len(hp.Spec.Volumes) == 0 {
		return hp, nil
	}
	e.volumes.Lock()
	defer e.volumes.Unlock()
	paths, err := a.volumes.Mount(ctx, hp.Pod)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.paths = paths
	a.armRefresh(e)
	e.mu.Unlock()
	hp.Paths = paths
	return hp, nil
}

// start runs a container.
func (a *Agent) start(ctx context.Context, e *entry, m pod.Member, act pod.Action) {
	id := attemptID(string(e.uid), act.Container, act.Attempt)
	hp, err := a.mounted(ctx, e)
	r := &hooks.Run{Pod: hp, Member: m, Attempt: act.Attempt, ID: id, Backoff: act.Backoff}
	if err == nil {
		hooked := m.Lifecycle != nil && m.Lifecycle.PostStart != nil
		r.OnStarted = func() {
			if !hooked {
				return
			}
			if st, err := a.dep.Runtime.Status(ctx, id); err == nil {
				e.mu.Lock()
				if at := e.observe(st); at.Running() {
					at.Hooking = true
				}
				e.mu.Unlock()
				a.queue.Add(e.uid)
			}
		}
		err = a.steps.Start(ctx, r)
	}
	if r.Pulled {
		a.touchNode() // the scheduler likes nodes that have the image
	}
	st, serr := a.dep.Runtime.Status(context.WithoutCancel(ctx), id)
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.cancels, act.Container)
	c := e.container(act.Container)
	c.Starting = false
	if serr == nil {
		at := e.observe(st)
		at.Hooking = false
	} else if !r.Created {
		// The image was pinned for an attempt that never came to be.
		if err := a.dep.Images.Release(id); err != nil {
			a.log.Debug("cannot release image", "err", err)
		}
	}
	if err == nil {
		c.Failure = nil
		return
	}
	if ctx.Err() != nil {
		return
	}
	if at := e.attempt(act.Container, id); at != nil && at.Ended() {
		c.Failure = nil
		if at.ContainerStatus.Message == "" {
			at.ContainerStatus.Message = err.Error()
		}
		return
	}
	now := time.Now()
	f := &pod.Failure{Reason: "CreateContainerConfigError", Message: err.Error(), At: now, RetryAt: now.Add(10 * time.Second)}
	if hf := (*hooks.Failure)(nil); errors.As(err, &hf) {
		f.Reason, f.Message, f.Image, f.BackOffMessage = hf.Reason, hf.Message, hf.Image, hf.BackOffMessage
		f.RetryAt = now.Add(max(hf.RetryAfter, time.Second))
	}
	c.Failure = f
	a.log.Info("cannot start container", "pod", e.String(), "container", act.Container, "reason", f.Reason, "err", err)
}

// stop ends a container.
func (a *Agent) stop(e *entry, q hooks.StopRequest) {
	err := a.steps.Stop(a.ctx, q)
	if errors.Is(err, runtime.ErrNotFound) {
		err = nil
	}
	st, serr := a.dep.Runtime.Status(context.WithoutCancel(a.ctx), q.ID)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case serr == nil:
		e.observe(st)
	case errors.Is(serr, runtime.ErrNotFound):
		e.drop(q.Member.Name, q.ID)
	}
	c := e.container(q.Member.Name)
	if err != nil && a.ctx.Err() == nil {
		a.log.Warn("cannot stop container, trying again", "pod", e.String(), "container", q.Member.Name, "err", err)
		a.dep.Recorder.EventForField(e.pod, q.Member.FieldPath, corev1.EventTypeWarning, "FailedKillPod", "error killing pod: %v", err)
		// StopBy stays for a moment, so that the next try is not at once.
		a.timers.Set("stop/"+q.ID, time.Now().Add(time.Second), func() {
			e.mu.Lock()
			c.StopBy = time.Time{}
			e.mu.Unlock()
			a.queue.Add(e.uid)
		})
		return
	}
	c.StopBy = time.Time{}
	a.queue.Add(e.uid)
}

// remove removes an ended attempt with its log.
func (a *Agent) remove(e *entry, act pod.Action) {
	err := a.dep.Runtime.RemoveContainer(a.ctx, act.ID)
	if err != nil && !errors.Is(err, runtime.ErrNotFound) {
		a.log.Warn("cannot remove container", "pod", e.String(), "container", act.Container, "err", err)
		select { // keeps the action marked as under way for a moment
		case <-a.ctx.Done():
		case <-time.After(time.Second):
		}
		return
	}
	if err := a.dep.Images.Release(act.ID); err != nil {
		a.log.Debug("cannot release image", "err", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if at := e.attempt(act.Container, act.ID); at != nil {
		if at.LogPath != "" && at.Ended() {
			removeLogs(at.LogPath)
		}
		e.drop(act.Container, act.ID)
	}
}

// lose turns the attempts of a sandbox that is gone into what the API is told
// of them. e.mu is held.
func (e *entry) lose(release func(id string)) {
	all := e.status
	for _, m := range pod.Members(e.pod) {
		c := e.container(m.Name)
		for i := range c.Attempts {
			release(c.Attempts[i].ID)
		}
		if len(c.Attempts) > 0 && all != nil {
			for _, list := range [][]corev1.ContainerStatus{all.InitContainerStatuses, all.ContainerStatuses, all.EphemeralContainerStatuses} {
				for i := range list {
					if list[i].Name == m.Name {
						cs := list[i]
						c.Previous = &cs
					}
				}
			}
		}
		// The status may be older than the newest attempt. Its number must not be
		// used again: late news of it would be taken for news of its successor.
		if n := len(c.Attempts); n > 0 && (c.Previous == nil || int(c.Previous.RestartCount) < c.Attempts[n-1].Attempt || c.Previous.ContainerID == "") {
			last := &c.Attempts[n-1]
			cs := corev1.ContainerStatus{Name: m.Name, RestartCount: int32(last.Attempt), ContainerID: pod.ContainerID(last.ID), Image: last.Image, ImageID: last.ImageID}
			cs.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(last.StartedAt.Truncate(time.Second))}
			if c.Previous != nil {
				cs.LastTerminationState = c.Previous.LastTerminationState
			}
			c.Previous = &cs
		}
		c.Attempts, c.Failure, c.Probes = nil, nil, pod.Probes{}
	}
}

func (a *Agent) release(id string) {
	if err := a.dep.Images.Release(id); err != nil {
		a.log.Debug("cannot release image", "err", err)
	}
}

// reset removes a lost sandbox, so that a new one can be made.
func (a *Agent) reset(e *entry) {
	err := a.steps.Reset(a.ctx, e.ident())
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.obs.Sandbox.State = pod.SandboxLost
		e.obs.Sandbox.RetryAt = time.Now().Add(retryDelay(e.failures))
		e.failures++
		a.log.Warn("cannot remove lost sandbox", "pod", e.String(), "err", err)
		return
	}
	a.dep.Recorder.Eventf(e.pod, corev1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
	e.lose(a.release)
	e.obs.Sandbox = pod.Sandbox{Leftovers: true}
	e.netns = ""
}

func (e *entry) ident() hooks.Ident {
	e.mu.Lock()
	defer e.mu.Unlock()
	return hooks.IdentOf(e.pod)
}

// tearDown removes everything but logs.
func (a *Agent) tearDown(e *entry) {
	id := e.ident()
	a.refs.Unregister(e.uid)
	e.volumes.Lock()
	err := a.steps.TearDown(a.ctx, id)
	e.volumes.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.obs.Sandbox.State, e.obs.Sandbox.Leftovers = pod.SandboxNone, true
		e.obs.Sandbox.RetryAt = time.Now().Add(retryDelay(e.failures))
		e.failures++
		if a.ctx.Err() == nil {
			a.log.Warn("cannot tear down pod, trying again", "pod", e.String(), "err", err)
		}
		return
	}
	e.failures = 0
	e.lose(a.release)
	ips := e.obs.Sandbox.IPs
	e.obs.Sandbox = pod.Sandbox{IPs: ips}
	e.paths, e.netns = nil, ""
	a.timers.Clear(refreshKey{e.uid})
}

// forget drops a pod that no longer exists anywhere.
func (a *Agent) forget(e *entry) {
	if err := a.steps.RemoveLogs(e.ident()); err != nil {
		a.log.Warn("cannot forget pod", "pod", e.String(), "err", err)
	}
	e.mu.Lock()
	e.forgot = true
	if e.booked {
		a.ledger.release(e.uid)
		e.booked = false
	}
	e.mu.Unlock()
	a.mu.Lock()
	delete(a.entries, e.uid)
	a.mu.Unlock()
	a.refs.Unregister(e.uid)
	a.probes.Set(e.uid, nil)
	a.timers.Clear(e.uid)
	a.timers.Clear(refreshKey{e.uid})
	a.writer.drop(e.uid)
}

// refreshKey names the alarm at which tokens of a pod are renewed.
type refreshKey struct{ uid any }

// armRefresh sets the alarm for the pod's tokens. e.mu is held.
func (a *Agent) armRefresh(e *entry) {
	next := a.volumes.NextRefresh(e.uid)
	if next.IsZero() {
		a.timers.Clear(refreshKey{e.uid})
		return
	}
	a.timers.Set(refreshKey{e.uid}, next, func() {
		e.mu.Lock()
		e.refresh = true
		e.mu.Unlock()
		a.queue.Add(e.uid)
	})
}

// prepareRefresh brings live volumes up to date. e.mu is held.
func (a *Agent) prepareRefresh(e *entry) func() {
	if e.inFlight["refresh"] {
		return nil
	}
	e.inFlight["refresh"], e.refresh = true, false
	p := e.pod
	return func() {
		a.refs.Register(e.uid, reference.Of(p))
		e.volumes.Lock()
		_, err := a.volumes.Refresh(a.ctx, p)
		e.volumes.Unlock()
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.inFlight, "refresh")
		a.armRefresh(e)
		if err != nil && a.ctx.Err() == nil {
			for _, ve := range volumeErrors(err) {
				a.dep.Recorder.Eventf(e.pod, corev1.EventTypeWarning, "FailedMount", "%s", ve.Error())
			}
			a.timers.Set(refreshKey{e.uid}, time.Now().Add(10*time.Second), func() {
				e.mu.Lock()
				e.refresh = true
				e.mu.Unlock()
				a.queue.Add(e.uid)
			})
		}
		if e.refresh {
			a.queue.Add(e.uid)
		}
	}
}

// resize changes the limits of a pod, and those of a running container of it if
// it names one, or says why it cannot.
func (a *Agent) resize(e *entry, act pod.Action) {
	e.mu.Lock()
	p := e.pod
	m, ok := pod.Find(p, act.Container)
	e.mu.Unlock()
	if whole := act.Container == ""; !ok && !whole {
		return
	}
	if c := a.ledger.rebook(p, a.Allocatable()); c != nil {
		e.mu.Lock()
		e.obs.Resize = c
		e.mu.Unlock()
		return
	}
	mem := a.machine.Capacity[corev1.ResourceMemory]
	capacity := pod.Capacity{MemoryBytes: mem.Value(), PodPids: a.cfg.PodPidsLimit, NoCPUQuota: a.cfg.NoCPUQuota}
	err := a.dep.Runtime.UpdateSandbox(a.ctx, string(e.uid), pod.PodLimits(p, capacity))
	if err == nil && ok {
		err = a.dep.Runtime.UpdateResources(a.ctx, act.ID, pod.ContainerLimits(p, m, capacity))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.obs.Resize = &corev1.PodCondition{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue, Reason: corev1.PodReasonError, Message: err.Error()}
		a.log.Warn("cannot resize container", "pod", e.String(), "container", act.Container, "err", err)
		return
	}
	e.obs.Sandbox.Resources = p.Spec.Resources.DeepCopy()
	if !ok {
		return
	}
	if at := e.attempt(act.Container, act.ID); at != nil {
		at.Resources = m.Resources.DeepCopy()
	}
}
