package kubelet

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/kubelet/hooks"
	"sagong/kubelet/pod"
	"sagong/kubelet/probe"
	"sagong/kubelet/reference"
	"sagong/object"
	"sagong/runtime"
)

// entry is what the agent keeps of a pod. All fields are guarded by mu.
type entry struct {
	uid types.UID

	mu       sync.Mutex
	pod      *corev1.Pod // the newest API object, immutable
	obs      pod.Observed
	admitted bool // the question whether to run it has been answered
	status   *corev1.PodStatus
	paths    map[string]string // volumes on the host; nil until they are mounted
	netns    string
	seen     time.Time
	setUpAt  time.Time       // when the sandbox at hand began to be made
	told     map[string]bool // notices recorded
	inFlight map[string]bool // actions under way
	cancels  map[string]context.CancelFunc
	failures int  // of set-up or tear-down in a row
	refresh  bool // volumes may be out of date
	forgot   bool
	booked   bool

	volumes sync.Mutex // held while volumes are mounted or refreshed
}

func newEntry(p *corev1.Pod) *entry {
	return &entry{uid: p.UID, pod: p, seen: time.Now(), told: map[string]bool{}, inFlight: map[string]bool{}, cancels: map[string]context.CancelFunc{},
		obs: pod.Observed{Containers: map[string]*pod.Container{}}}
}

// container is the record of a container, made when missing. mu is held.
func (e *entry) container(name string) *pod.Container {
	c := e.obs.Containers[name]
	if c == nil {
		c = &pod.Container{}
		e.obs.Containers[name] = c
	}
	return c
}

// attempt finds an attempt by its id. mu is held.
func (e *entry) attempt(name, id string) *pod.Attempt {
	c := e.container(name)
	for i := range c.Attempts {
		if c.Attempts[i].ID == id {
			return &c.Attempts[i]
		}
	}
	return nil
}

var order = map[runtime.State]int{runtime.StateCreated: 0, runtime.StateRunning: 1, runtime.StateUnknown: 2, runtime.StateExited: 2}

// observe takes in what the runtime says of a container. An attempt never goes
// back: news may arrive out of order. mu is held.
func (e *entry) observe(st runtime.ContainerStatus) *pod.Attempt {
	c := e.container(st.Name)
	if old := e.attempt(st.Name, st.ID); old != nil {
		if order[st.State] < order[old.State] {
			return old
		}
		if old.Ended() {
			return old
		}
		fresh := hooks.Attempt(st)
		fresh.Hooking, fresh.Killed = old.Hooking && !fresh.Ended(), old.Killed
		if old.Resources != nil {
			fresh.Resources = old.Resources
		}
		*old = fresh
		return old
	}
	at := len(c.Attempts)
	for at > 0 && c.Attempts[at-1].Attempt > st.Attempt {
		at--
	}
	c.Attempts = append(c.Attempts, pod.Attempt{})
	copy(c.Attempts[at+1:], c.Attempts[at:])
	c.Attempts[at] = hooks.Attempt(st)
	return &c.Attempts[at]
}

// drop forgets an attempt that the runtime has removed. mu is held.
func (e *entry) drop(name, id string) {
	c := e.container(name)
	for i := range c.Attempts {
		if c.Attempts[i].ID == id {
			c.Attempts = append(c.Attempts[:i:i], c.Attempts[i+1:]...)
			return
		}
	}
}

// hookPod is the pod as steps see it. mu is held.
func (e *entry) hookPod() *hooks.Pod {
	return &hooks.Pod{Pod: e.pod, Paths: e.paths, NetNS: e.netns, IPs: e.obs.Sandbox.IPs}
}

// onPod follows the node's pods in the API.
func (a *Agent) onPod(old, new *corev1.Pod) {
	if new == nil || old != nil && old.UID != new.UID {
		a.mu.Lock()
		e := a.entries[old.UID]
		a.mu.Unlock()
		if e != nil {
			e.mu.Lock()
			e.pod, e.obs.Gone = old, true
			e.mu.Unlock()
			a.queue.Add(old.UID)
		}
		if new == nil {
			return
		}
	}
	a.mu.Lock()
	e := a.entries[new.UID]
	if e == nil {
		e = newEntry(new)
		a.entries[new.UID] = e
	}
	a.mu.Unlock()
	e.mu.Lock()
	e.take(new)
	e.mu.Unlock()
	a.queue.Add(new.UID)
}

// take makes an API object the newest known. mu is held.
func (e *entry) take(p *corev1.Pod) {
	if object.RevisionOf(p) < object.RevisionOf(e.pod) {
		return
	}
	if changedForVolumes(e.pod, p) {
		e.refresh = true
	}
	if p.Generation != e.pod.Generation {
		e.obs.Resize = nil
	}
	e.pod = p
	if ph := p.Status.Phase; ph == corev1.PodSucceeded || ph == corev1.PodFailed {
		e.obs.Reported = ph
	}
}

// changedForVolumes says whether downwardAPI volumes may show something else.
func changedForVolumes(a, b *corev1.Pod) bool {
	same := func(x, y map[string]string) bool {
		if len(x) != len(y) {
			return false
		}
		for k, v := range x {
			if w, ok := y[k]; !ok || w != v {
				return false
			}
		}
		return true
	}
	return a != b && (!same(a.Labels, b.Labels) || !same(a.Annotations, b.Annotations) || a.Generation != b.Generation)
}

// referenceChanged is told of each pod whose ConfigMap or Secret changed.
func (a *Agent) referenceChanged(uid types.UID) {
	a.mu.Lock()
	e := a.entries[uid]
	a.mu.Unlock()
	if e == nil {
		return
	}
	e.mu.Lock()
	e.refresh = true
	if e.obs.Sandbox.State == pod.SandboxNone && e.obs.StopSince.IsZero() {
		e.obs.Sandbox.RetryAt = time.Time{}
	}
	for _, c := range e.obs.Containers {
		if c.Failure != nil && c.Failure.Reason == "CreateContainerConfigError" {
			c.Failure.RetryAt = time.Time{}
		}
	}
	e.mu.Unlock()
	a.queue.Add(uid)
}

// sync decides on a pod and sets in motion what was decided.
func (a *Agent) sync(e *entry) {
	now := time.Now()
	e.mu.Lock()
	if e.forgot || a.ctx.Err() != nil {
		e.mu.Unlock()
		return
	}
	if !e.admitted {
		a.takeOn(e, now)
	}
	a.readProbes(e)
	a.readHealth(e)
	p := e.view()
	plan := pod.Decide(p, &e.obs, now, pod.Settings{})
	e.obs.StopSince = plan.StopSince
	if plan.Verdict != nil {
		e.obs.Verdict = plan.Verdict
	}
	if e.status != nil && e.status.Phase == corev1.PodPending && plan.Status.Phase == corev1.PodRunning {
		a.metrics.start.Observe(now.Sub(e.seen).Seconds())
	}
	e.status = &plan.Status
	if plan.Finished && e.booked {
		a.ledger.release(e.uid)
		e.booked = false
		defer a.retryResizes()
	}
	if !e.obs.Gone {
		a.writer.put(e, plan.Status)
	}
	for _, n := range plan.Notices {
		a.tell(e, n)
	}
	a.probes.Set(e.uid, e.targets(plan.Probes))
	var run []func()
	for _, act := range plan.Actions {
		if f := a.prepare(e, act, now); f != nil {
			run = append(run, f)
		}
	}
	if e.refresh && e.obs.Sandbox.State == pod.SandboxReady && plan.StopSince.IsZero() {
		if f := a.prepareRefresh(e); f != nil {
			run = append(run, f)
		}
	}
	if plan.Wake.IsZero() {
		a.timers.Clear(e.uid)
	} else {
		a.timers.Set(e.uid, plan.Wake, func() { a.queue.Add(e.uid) })
	}
	e.mu.Unlock()
	for _, f := range run {
		a.work.Go(f)
	}
}

// readHealth looks at the devices of a pod's containers. What was found stays
// once they are released. mu is held.
func (a *Agent) readHealth(e *entry) {
	if len(e.pod.Spec.ResourceClaims) == 0 && e.pod.Status.ExtendedResourceClaimStatus == nil {
		return
	}
	for i := range e.pod.Spec.Containers {
		c := &e.pod.Spec.Containers[i]
		if h := a.devices.Health(e.pod, c); h != nil {
			e.container(c.Name).Devices = h
		}
	}
}

// retryResizes lets pods whose resize was deferred for want of room try again.
func (a *Agent) retryResizes() {
	a.mu.Lock()
	all := make([]*entry, 0, len(a.entries))
	for _, e := range a.entries {
		all = append(all, e)
	}
	a.mu.Unlock()
	for _, e := range all {
		if !e.mu.TryLock() {
			continue // it is being decided on, and will be again
		}
		deferred := e.obs.Resize != nil && e.obs.Resize.Reason == corev1.PodReasonDeferred
		if deferred {
			e.obs.Resize = nil
		}
		e.mu.Unlock()
		if deferred {
			a.queue.Add(e.uid)
		}
	}
}

// view is the API object with the conditions as this agent reported them last:
// what the view shows may be older than that. mu is held.
func (e *entry) view() *corev1.Pod {
	if e.status == nil {
		return e.pod
	}
	p := *e.pod
	p.Status.Conditions = make([]corev1.PodCondition, len(e.pod.Status.Conditions))
	copy(p.Status.Conditions, e.pod.Status.Conditions)
	for _, c := range e.status.Conditions {
		if !ownCondition(c.Type) {
			continue
		}
		if have := pod.FindCondition(&p.Status, c.Type); have != nil {
			*have = c
		} else {
			p.Status.Conditions = append(p.Status.Conditions, c)
		}
	}
	return &p
}

// ownCondition says whether the node owns a pod condition.
func ownCondition(t corev1.PodConditionType) bool {
	switch t {
	case corev1.PodScheduled, corev1.PodReady, corev1.PodInitialized, corev1.ContainersReady,
		corev1.PodReadyToStartContainers, corev1.PodResizePending, corev1.PodResizeInProgress:
		return true
	}
	return false
}

// takeOn admits a pod that the node sees for the first time. mu is held.
func (a *Agent) takeOn(e *entry, now time.Time) {
	e.admitted = true
	p := e.pod
	e.obs.HostIPs = a.cfg.HostIPs
	e.obs.Reported = p.Status.Phase
	if p.Status.StartTime != nil {
		e.obs.StartTime = p.Status.StartTime.Time
	} else {
		e.obs.StartTime = now
	}
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed || p.DeletionTimestamp != nil || e.obs.Gone {
		return
	}
	if p.Status.StartTime != nil || e.obs.Sandbox.State != pod.SandboxNone {
		// Taken on before; what runs is not thrown out for want of room.
		a.ledger.book(p, nil)
	} else if v := a.admit(p); v != nil {
		e.obs.Verdict = v
		a.dep.Recorder.Eventf(p, corev1.EventTypeWarning, v.Reason, "%s", strings.TrimPrefix(v.Message, "Pod was rejected: "))
		return
	}
	e.booked = true
	a.refs.Register(e.uid, reference.Of(p))
}

// tell records a notice once. mu is held.
func (a *Agent) tell(e *entry, n pod.Notice) {
	if e.told[n.Key] {
		return
	}
	e.told[n.Key] = true
	if n.Container == "" {
		a.dep.Recorder.Eventf(e.pod, n.Type, n.Reason, "%s", n.Message)
		return
	}
	m, _ := pod.Find(e.pod, n.Container)
	a.dep.Recorder.EventForField(e.pod, m.FieldPath, n.Type, n.Reason, "%s", n.Message)
}

// readProbes takes in what probes have found. mu is held.
func (a *Agent) readProbes(e *entry) {
	for name, c := range e.obs.Containers {
		if len(c.Attempts) == 0 {
			continue
		}
		last := &c.Attempts[len(c.Attempts)-1]
		if r, ok := a.probes.Results(last.ID); ok {
			c.Probes = r
			continue
		}
		m, ok := pod.Find(e.pod, name)
		if !ok {
			continue
		}
		c.Probes = e.initialProbes(pod.ProbeTarget{Container: name, ID: last.ID}, m)
		c.Probes.Started = c.Probes.Started || m.StartupProbe == nil
		c.Probes.Ready = c.Probes.Ready || m.ReadinessProbe == nil
	}
}

// targets describes the containers to probe. mu is held.
func (e *entry) targets(list []pod.ProbeTarget) []probe.Target {
	var out []probe.Target
	for _, t := range list {
		m, ok := pod.Find(e.pod, t.Container)
		at := e.attempt(t.Container, t.ID)
		if !ok || at == nil {
			continue
		}
		var ip netip.Addr
		if len(e.obs.Sandbox.IPs) > 0 {
			ip = e.obs.Sandbox.IPs[0]
		}
		out = append(out, probe.Target{Pod: e.pod, Member: m, ID: t.ID, IP: ip, StartedAt: at.StartedAt,
			ReadinessOnly: t.ReadinessOnly, Initial: e.initialProbes(t, m)})
	}
	return out
}

// initialProbes is what the API says of an attempt that an earlier agent
// probed. mu is held.
func (e *entry) initialProbes(t pod.ProbeTarget, m pod.Member) pod.Probes {
	c := e.container(t.Container)
	if c.Previous != nil && c.Previous.ContainerID == pod.ContainerID(t.ID) {
		return pod.Probes{Started: c.Previous.Started != nil && *c.Previous.Started, Ready: c.Previous.Ready}
	}
	return pod.Probes{}
}

func (e *entry) String() string { return fmt.Sprintf("%s/%s", e.pod.Namespace, e.pod.Name) }
