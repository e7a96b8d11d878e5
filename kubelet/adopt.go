package kubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/kubelet/hooks"
	"sagong/kubelet/pod"
	"sagong/kubelet/reference"
	"sagong/kubelet/volume"
	"sagong/runtime"
)

// adopt takes over what an earlier agent left: pods that run go on, with their
// counts, delays and probe results; what belongs to no pod is removed. It runs
// before any decision, so nothing is started that is there already.
func (a *Agent) adopt(ctx context.Context) error {
	sandboxes, err := a.dep.Runtime.List(ctx)
	if err != nil {
		return fmt.Errorf("cannot take over running pods: %w", err)
	}
	dirs, err := a.volumes.Pods()
	if err != nil {
		return err
	}
	known := map[types.UID]*entry{}
	for _, p := range a.pods.All() {
		known[p.UID] = newEntry(p)
	}
	var orphans []hooks.Ident
	containers := map[string]bool{}
	for i := range sandboxes {
		sb := &sandboxes[i]
		e := known[types.UID(sb.Sandbox.UID)]
		if e == nil {
			orphans = append(orphans, hooks.Ident{UID: types.UID(sb.Sandbox.UID), Namespace: sb.Sandbox.Namespace, Name: sb.Sandbox.Name})
			continue
		}
		for _, c := range sb.Containers {
			containers[c.ID] = true
		}
		a.takeOver(e, sb)
	}
	for _, uid := range dirs {
		if e := known[uid]; e != nil {
			e.obs.Sandbox.Leftovers = true
		} else if !hasOrphan(orphans, uid) {
			orphans = append(orphans, hooks.Ident{UID: uid})
		}
	}
	for _, e := range known {
		a.recall(e)
	}
	a.mu.Lock()
	for uid, e := range known {
		a.entries[uid] = e
	}
	a.mu.Unlock()
	if err := a.openPorts(ctx, known); err != nil {
		return err
	}
	close(a.taken)
	// From here on changes are seen; each pod present is announced once.
	a.pods.OnChange(a.onPod)
	// A pod that went between the two looks is not announced.
	for uid, e := range known {
		id := e.ident()
		if now, ok := a.pods.Get(id.Namespace, id.Name); !ok || now.UID != uid {
			e.mu.Lock()
			e.obs.Gone = true
			e.mu.Unlock()
			a.queue.Add(uid)
		}
	}

	if len(orphans) > 0 || len(dirs) > 0 || len(sandboxes) > 0 {
		a.log.Info("taken over", "pods", len(known), "sandboxes", len(sandboxes), "orphans", len(orphans))
	}
	for owner := range a.dep.Images.Pins() {
		if uid, ok := volume.ImageOwnerPod(owner); ok {
			if !slices.Contains(dirs, uid) {
				a.release(owner)
			}
		} else if len(owner) == 64 && !containers[owner] {
			a.release(owner)
		}
	}
	a.work.Go(func() { a.clean(ctx, orphans) })
	return nil
}

// openPorts leads host ports to the pods that run already.
func (a *Agent) openPorts(ctx context.Context, known map[types.UID]*entry) error {
	for _, e := range known {
		ports := hooks.HostPortsOf(e.pod)
		if a.dep.HostPorts == nil || len(ports) == 0 || e.obs.Sandbox.State != pod.SandboxReady {
			continue
		}
		select { // they are led by the network
		case <-a.network.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := a.dep.HostPorts.Set(ctx, string(e.uid), e.obs.Sandbox.IPs, ports); err != nil {
			a.log.Warn("cannot open the host ports of a pod that runs", "pod", e.String(), "err", err)
		}
	}
	return nil
}

func hasOrphan(list []hooks.Ident, uid types.UID) bool {
	for _, o := range list {
		if o.UID == uid {
			return true
		}
	}
	return false
}

// takeOver makes a running sandbox part of a pod's entry.
func (a *Agent) takeOver(e *entry, sb *runtime.SandboxStatus) {
	e.obs.Sandbox.State = pod.SandboxReady
	if !sb.Ready {
		e.obs.Sandbox.State = pod.SandboxLost
	}
	e.obs.Sandbox.IPs = a.steps.Addresses(e.pod)
	e.netns = sb.NetNSPath
	e.refresh = true
	for _, c := range sb.Containers {
		e.observe(c)
	}
	if sb.Ready && len(e.obs.Sandbox.IPs) == 0 {
		// Cut off between namespace and network: set up again, which finds done
		// what is done.
		e.obs.Sandbox.State = pod.SandboxNone
	}
}

// recall takes from the API what only it remembers.
func (a *Agent) recall(e *entry) {
	e.obs.HostIPs = a.cfg.HostIPs
	s := &e.pod.Status
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			cs := list[i]
			if cs.ContainerID != "" || cs.RestartCount > 0 {
				e.container(cs.Name).Previous = &cs
			}
		}
	}
	if e.obs.Sandbox.State != pod.SandboxNone {
		a.refs.Register(e.uid, reference.Of(e.pod))
	}
}

// clean removes what belongs to no pod.
func (a *Agent) clean(ctx context.Context, orphans []hooks.Ident) {
	for _, o := range orphans {
		for wait := time.Second; ; wait = min(2*wait, time.Minute) {
			err := a.steps.TearDown(ctx, o)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			a.log.Warn("cannot remove an orphaned pod, trying again", "uid", o.UID, "err", err, "in", wait)
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	}
	if err := a.cleanLogs(); err != nil {
		a.log.Warn("cannot remove orphaned logs", "err", err)
	}
	select {
	case <-a.network.ready:
	case <-ctx.Done():
		return
	}
	a.mu.Lock()
	keys := make([]string, 0, len(a.entries))
	for uid := range a.entries {
		keys = append(keys, string(uid))
	}
	a.mu.Unlock()
	if err := a.network.net.Retain(ctx, keys); err != nil && ctx.Err() == nil {
		a.log.Warn("cannot release orphaned addresses", "err", err)
	}
	a.retainDevices(ctx)
}

// retainDevices has devices released that pods used which are gone. Their
// drivers may not be back yet.
func (a *Agent) retainDevices(ctx context.Context) {
	a.mu.Lock()
	pods := make(map[types.UID]bool, len(a.entries))
	for uid := range a.entries {
		pods[uid] = true
	}
	a.mu.Unlock()
	if err := a.devices.Retain(ctx, pods); err != nil && ctx.Err() == nil {
		a.log.Warn("cannot release the devices of pods that are gone, trying again", "err", err)
		a.timers.Set(driverGone(""), time.Now().Add(retryDevices), func() { a.work.Go(func() { a.retainDevices(a.ctx) }) })
	}
}

// retryDevices is how long devices that could not be released wait.
const retryDevices = 10 * time.Second

// cleanLogs removes the logs of pods that are gone.
func (a *Agent) cleanLogs() error {
	entries, err := os.ReadDir(a.cfg.LogDir)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range entries {
		parts := strings.Split(d.Name(), "_")
		if len(parts) != 3 {
			continue
		}
		uid := types.UID(parts[2])
		a.mu.Lock()
		_, known := a.entries[uid]
		a.mu.Unlock()
		if !known {
			errs = append(errs, a.steps.RemoveLogs(hooks.Ident{Namespace: parts[0], Name: parts[1], UID: uid}))
		}
	}
	return errors.Join(errs...)
}

// follow takes in what happens in the runtime.
func (a *Agent) follow(ctx context.Context) {
	events := a.dep.Runtime.Events()
	for {
		select {
		case <-ctx.Done():
			return
		case ev, ok := <-events:
			if !ok {
				return
			}
			a.onRuntime(ev)
		}
	}
}

func (a *Agent) onRuntime(ev runtime.Event) {
	if ev.Type == runtime.EventExited || ev.Type == runtime.EventRemoved {
		defer a.announceEnd(ev.ContainerID)
	}
	uid := types.UID(ev.SandboxUID)
	a.mu.Lock()
	e := a.entries[uid]
	a.mu.Unlock()
	if e == nil {
		return
	}
	e.mu.Lock()
	switch ev.Type {
	case runtime.EventCreated:
		// The start that made it reports how far it got.
		e.mu.Unlock()
		return
	case runtime.EventStarted, runtime.EventExited:
		c := e.container(ev.Container.Name)
		if e.attempt(ev.Container.Name, ev.ContainerID) == nil && !c.Starting {
			break // removed meanwhile
		}
		at := e.observe(ev.Container)
		if ev.Type == runtime.EventStarted && c.Starting && at.Running() {
			if m, ok := pod.Find(e.pod, ev.Container.Name); ok && m.Lifecycle != nil && m.Lifecycle.PostStart != nil {
				at.Hooking = true
			}
		}
	case runtime.EventRemoved:
		// Only the agent removes, and it has taken note. This may be old news: the
		// same attempt may have been made again since.
	case runtime.EventSandboxLost:
		// News of a sandbox that has been replaced since is of no interest.
		if e.obs.Sandbox.State == pod.SandboxReady && !ev.At.Before(e.setUpAt) {
			e.obs.Sandbox.State = pod.SandboxLost
			for _, c := range e.obs.Containers {
				for i := range c.Attempts {
					defer a.announceEnd(c.Attempts[i].ID)
				}
			}
		}
	}
	e.mu.Unlock()
	a.queue.Add(uid)
}
