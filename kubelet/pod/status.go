package pod

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/runtime"
)

// stamp is a time as the API keeps it, in whole seconds.
func stamp(t time.Time) metav1.Time {
	if t.IsZero() {
		return metav1.Time{}
	}
	return metav1.NewTime(t.Truncate(time.Second))
}

// status is what the API is to hold, built on what it holds already: conditions
// and fields that others own are kept.
func (d *decider) status() corev1.PodStatus {
	old := &d.p.Status
	s := *old.DeepCopy()
	s.ObservedGeneration = d.p.Generation
	s.QOSClass = QOS(d.p)
	if s.StartTime == nil && !d.o.StartTime.IsZero() {
		t := stamp(d.o.StartTime)
		s.StartTime = &t
	}
	if len(d.o.HostIPs) > 0 {
		s.HostIP, s.HostIPs = d.o.HostIPs[0].String(), nil
		for _, ip := range d.o.HostIPs {
			s.HostIPs = append(s.HostIPs, corev1.HostIP{IP: ip.String()})
		}
	}
	ips := d.o.Sandbox.IPs
	if d.p.Spec.HostNetwork && len(ips) == 0 && d.o.Sandbox.State == SandboxReady {
		ips = d.o.HostIPs
	}
	if len(ips) > 0 {
		s.PodIP, s.PodIPs = ips[0].String(), nil
		for _, ip := range ips {
			s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip.String()})
		}
	}
	if r := d.p.Spec.Resources; r != nil {
		s.AllocatedResources = r.Requests.DeepCopy()
		if in := d.o.Sandbox.Resources; in != nil {
			s.Resources = in.DeepCopy()
			if d.o.Resize != nil {
				s.AllocatedResources = in.Requests.DeepCopy()
			}
		}
	}
	s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses = nil, nil, nil
	for _, m := range d.members {
		api := previousStatus(old, m)
		var cs corev1.ContainerStatus
		if api != nil && d.plan.Finished && terminal(old.Phase) && api.State.Running == nil {
			cs = *api.DeepCopy() // it has ended and was reported: that stays
		} else {
			cs = d.containerStatus(m, api)
			if m.Class == Main {
				cs.AllocatedResourcesStatus = d.container(m.Name).Devices
			}
		}
		switch m.Class {
		case Init, Sidecar:
			s.InitContainerStatuses = append(s.InitContainerStatuses, cs)
		case Main:
			s.ContainerStatuses = append(s.ContainerStatuses, cs)
		case Ephemeral:
			s.EphemeralContainerStatuses = append(s.EphemeralContainerStatuses, cs)
		}
	}
	d.phase(&s, old)
	if d.plan.Finished && !terminal(old.Phase) {
		d.settle(&s)
	}
	d.conditions(&s)
	return s
}

// previousStatus finds what the API holds of a container.
func previousStatus(s *corev1.PodStatus, m Member) *corev1.ContainerStatus {
	list := s.ContainerStatuses
	switch m.Class {
	case Init, Sidecar:
		list = s.InitContainerStatuses
	case Ephemeral:
		list = s.EphemeralContainerStatuses
	}
	for i := range list {
		if list[i].Name == m.Name {
			return &list[i]
		}
	}
	return nil
}

func hadEnded(cs *corev1.ContainerStatus) bool {
	return cs != nil && cs.State.Terminated != nil
}

// containerStatus describes one container.
func (d *decider) containerStatus(m Member, api *corev1.ContainerStatus) corev1.ContainerStatus {
	c := d.container(m.Name)
	last := c.last()
	cs := corev1.ContainerStatus{Name: m.Name, Image: m.Image, StopSignal: stopSignal(m)}
	previous := c.Previous
	if previous == nil && last == nil {
		previous = api
	}
	started := false
	cs.Started = &started
	d.mountStatus(&cs, m)

	if last == nil || last.State == runtime.StateCreated {
		if last == nil && previous != nil {
			cs.RestartCount = previous.RestartCount
			cs.LastTerminationState = previous.LastTerminationState
			cs.ImageID, cs.ContainerID = previous.ImageID, previous.ContainerID
			if previous.Image != "" {
				cs.Image = previous.Image
			}
			switch {
			case previous.State.Terminated != nil:
				// Its runtime record is gone, what the API knows stays true.
				cs.State, cs.Ready = previous.State, previous.Ready
				cs.Resources, cs.AllocatedResources, cs.User = previous.Resources, previous.AllocatedResources, previous.User
				if m.Class == Ephemeral || !d.awaitsStart(m, c, previous.State.Terminated) {
					return cs
				}
				cs.LastTerminationState, cs.State, cs.Ready = previous.State, corev1.ContainerState{}, false
			case previous.State.Running != nil:
				t := &corev1.ContainerStateTerminated{
					ExitCode: 137, Reason: "ContainerStatusUnknown",
					Message:     "The container could not be located when the pod was terminated",
					ContainerID: previous.ContainerID,
					StartedAt:   previous.State.Running.StartedAt,
				}
				if !d.ending() && d.awaitsStart(m, c, t) {
					t.Message = "The container could not be located when the pod was deleted.  The container used to be Running"
					cs.LastTerminationState = corev1.ContainerState{Terminated: t}
					break
				}
				cs.State.Terminated = t
				return cs
			}
		}
		d.resourceStatus(&cs, m, nil)
		cs.State.Waiting = d.waiting(m, c, nil)
		return cs
	}

	cs.RestartCount = int32(last.Attempt)
	cs.ContainerID, cs.ImageID = containerID(last.ID), last.ImageID
	if last.Image != "" {
		cs.Image = last.Image
	}
	cs.User = last.User
	d.resourceStatus(&cs, m, last)
	if n := len(c.Attempts); n > 1 && c.Attempts[n-2].Ended() {
		cs.LastTerminationState.Terminated = terminated(&c.Attempts[n-2])
	} else if c.Previous != nil {
		cs.LastTerminationState = formerEnd(c.Previous, last)
	}
	switch {
	case last.Running() && last.Hooking:
		cs.State.Waiting = d.waiting(m, &Container{}, nil)
	case last.Running():
		cs.State.Running = &corev1.ContainerStateRunning{StartedAt: stamp(last.StartedAt)}
		started = m.StartupProbe == nil || c.Probes.Started
		cs.Ready = started && (m.ReadinessProbe == nil || c.Probes.Ready)
		if m.Class == Init || m.Class == Ephemeral {
			cs.Ready = false
		}
	default:
		t := terminated(last)
		cs.State.Terminated = t
		if m.Class == Init && t.ExitCode == 0 {
			cs.Ready = true
		}
		if w := d.waitsAgain(m, c, last); w != nil {
			cs.State = corev1.ContainerState{Waiting: w}
			cs.LastTerminationState.Terminated = t
			cs.Ready = false
		}
	}
	return cs
}

// ending says that the pod will run no more containers.
func (d *decider) ending() bool { return !d.plan.StopSince.IsZero() }

// awaitsStart says whether a container whose attempt is lost to the runtime is
// still to be run.
func (d *decider) awaitsStart(m Member, c *Container, t *corev1.ContainerStateTerminated) bool {
	if d.ending() || terminal(d.p.Status.Phase) {
		return false
	}
	return c.Starting || c.Failure != nil || ShouldRestart(d.p, m, int(t.ExitCode)) || !d.started
}

// formerEnd is the last state of a container whose attempt before the one at
// hand is known to the API only.
func formerEnd(prev *corev1.ContainerStatus, last *Attempt) corev1.ContainerState {
	if prev.ContainerID == containerID(last.ID) || prev.ContainerID == "" {
		return prev.LastTerminationState
	}
	if prev.State.Terminated != nil {
		return corev1.ContainerState{Terminated: prev.State.Terminated}
	}
	if r := prev.State.Running; r != nil {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: 137, Reason: "ContainerStatusUnknown", StartedAt: r.StartedAt, ContainerID: prev.ContainerID,
			Message: "The container could not be located when the pod was deleted.  The container used to be Running",
		}}
	}
	return prev.LastTerminationState
}

func containerID(id string) string { return "sagong://" + id }

// ContainerID is a runtime id as status.containerID shows it.
func ContainerID(id string) string { return containerID(id) }

// waiting says why a container that does not run is going to.
func (d *decider) waiting(m Member, c *Container, fallback *corev1.ContainerStateWaiting) *corev1.ContainerStateWaiting {
	if f := c.Failure; f != nil {
		w := &corev1.ContainerStateWaiting{Reason: f.Reason, Message: f.Message}
		if f.Image && !d.now.Before(f.At.Add(imageBackoffShown)) {
			w.Reason, w.Message = "ImagePullBackOff", f.BackOffMessage
			if !d.ending() {
				d.notice(fmt.Sprintf("imagebackoff/%s/%d", m.Name, f.At.UnixNano()), m.Name, corev1.EventTypeNormal, "BackOff", fmt.Sprintf("Back-off pulling image %q", m.Image))
				d.notice(fmt.Sprintf("imagebackofferr/%s/%d", m.Name, f.At.UnixNano()), m.Name, corev1.EventTypeWarning, "Failed", "Error: ImagePullBackOff")
			}
		}
		return w
	}
	if fallback != nil {
		return fallback
	}
	if len(d.p.Spec.InitContainers) > 0 && !(d.started && d.o.Sandbox.State == SandboxReady) || (m.Class == Init || m.Class == Sidecar) && len(d.p.Spec.InitContainers) > 0 {
		return &corev1.ContainerStateWaiting{Reason: "PodInitializing"}
	}
	return &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
}

// waitsAgain says how a container that ended waits for its next start, or nil
// when it has ended for good or starts at once.
func (d *decider) waitsAgain(m Member, c *Container, last *Attempt) *corev1.ContainerStateWaiting {
	if d.ending() || m.Class == Ephemeral || m.Class == Init && d.started {
		return nil
	}
	if c.Failure != nil {
		return d.waiting(m, c, nil)
	}
	if d.redefined(m, last) || !ShouldRestart(d.p, m, last.ExitCode) && !(last.Killed && restartsOnFailure(d.p, m)) {
		return nil
	}
	if at, _ := nextStart(c, d.s); d.now.Before(at) {
		return &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff",
			Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)", last.Backoff, m.Name, d.p.Name, d.p.Namespace, d.p.UID)}
	}
	if last.Reason == "StartError" {
		return &corev1.ContainerStateWaiting{Reason: "RunContainerError", Message: last.ContainerStatus.Message}
	}
	return nil
}

// terminated describes an ended attempt.
func terminated(a *Attempt) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode: int32(a.ExitCode), Reason: a.Reason, Message: a.Message,
		StartedAt: stamp(a.StartedAt), FinishedAt: stamp(a.FinishedAt), ContainerID: containerID(a.ID),
	}
	if t.Message == "" {
		t.Message = a.ContainerStatus.Message
	}
	switch {
	case a.State == runtime.StateUnknown:
		t.Reason = "ContainerStatusUnknown"
	case t.Reason != "":
	case a.OOMKilled:
		t.Reason = "OOMKilled"
	case a.ExitCode == 0:
		t.Reason = "Completed"
	default:
		t.Reason = "Error"
	}
	return t
}

func (d *decider) mountStatus(cs *corev1.ContainerStatus, m Member) {
	for _, vm := range m.VolumeMounts {
		s := corev1.VolumeMountStatus{Name: vm.Name, MountPath: vm.MountPath, ReadOnly: vm.ReadOnly}
		if vm.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			if r := vm.RecursiveReadOnly; r != nil && *r != corev1.RecursiveReadOnlyDisabled {
				mode = corev1.RecursiveReadOnlyEnabled
			}
			s.RecursiveReadOnly = &mode
		}
		cs.VolumeMounts = append(cs.VolumeMounts, s)
	}
}

func (d *decider) resourceStatus(cs *corev1.ContainerStatus, m Member, a *Attempt) {
	if m.Class == Ephemeral {
		return
	}
	r := m.Resources
	if a != nil && a.Resources != nil {
		r = *a.Resources
	}
	cs.Resources = r.DeepCopy()
	if m.Resources.Requests != nil {
		cs.AllocatedResources = m.Resources.Requests.DeepCopy()
		if a != nil && a.Resources != nil && d.o.Resize != nil {
			cs.AllocatedResources = a.Resources.Requests.DeepCopy()
		}
	}
}

func stopSignal(m Member) *corev1.Signal {
	if m.Lifecycle == nil {
		return nil
	}
	return m.Lifecycle.StopSignal
}

// phase sets phase, reason and message.
func (d *decider) phase(s *corev1.PodStatus, old *corev1.PodStatus) {
	if terminal(old.Phase) {
		s.Phase, s.Reason, s.Message = old.Phase, old.Reason, old.Message
		return
	}
	s.Phase, s.Reason, s.Message = d.computePhase(s), "", ""
	if v := d.verdict; v != nil {
		s.Reason, s.Message = v.Reason, v.Message
		s.Phase = corev1.PodFailed
		if !d.plan.Finished {
			// The end of an evicted pod is announced once it has ended.
			s.Phase = d.computePhase(s)
			if s.Phase == corev1.PodSucceeded {
				s.Phase = corev1.PodRunning
			}
		}
	}
	if terminal(s.Phase) && !d.plan.Finished {
		s.Phase = corev1.PodRunning
		if !d.started {
			s.Phase = corev1.PodPending
		}
	}
}

func (d *decider) computePhase(s *corev1.PodStatus) corev1.PodPhase {
	pending, failed := false, false
	for _, cs := range s.InitContainerStatuses {
		m, _ := d.member(cs.Name)
		if m.Class == Sidecar {
			pending = pending || cs.Started == nil || !*cs.Started
			continue
		}
		t := cs.State.Terminated
		switch {
		case t != nil && t.ExitCode != 0 && !ShouldRestart(d.p, m, int(t.ExitCode)):
			failed = true
		case t == nil || t.ExitCode != 0:
			pending = true
		}
	}
	if failed && !d.started {
		return corev1.PodFailed
	}
	running, waiting, stopped, succeeded, again := 0, 0, 0, 0, 0
	for _, cs := range s.ContainerStatuses {
		m, _ := d.member(cs.Name)
		switch {
		case cs.State.Running != nil:
			running++
		case cs.State.Terminated != nil:
			stopped++
			if cs.State.Terminated.ExitCode == 0 {
				succeeded++
			}
			if ShouldRestart(d.p, m, int(cs.State.Terminated.ExitCode)) {
				again++
			}
		case cs.LastTerminationState.Terminated != nil:
			stopped++
			again++
		default:
			waiting++
		}
	}
	switch {
	case pending && !d.started || waiting > 0:
		return corev1.PodPending
	case running > 0:
		return corev1.PodRunning
	case again > 0 && !d.ending():
		return corev1.PodRunning
	case stopped == succeeded:
		return corev1.PodSucceeded
	case again > 0 && d.p.DeletionTimestamp == nil && !d.o.Gone:
		return corev1.PodRunning
	}
	return corev1.PodFailed
}

func (d *decider) member(name string) (Member, bool) {
	for _, m := range d.members {
		if m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}

// settle gives a pod that has ended a terminal phase, and every container that
// nobody saw end an end.
func (d *decider) settle(s *corev1.PodStatus) {
	lost := func(cs *corev1.ContainerStatus) {
		if cs.State.Terminated == nil {
			cs.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				ExitCode: 137, Reason: "ContainerStatusUnknown",
				Message: "The container could not be located when the pod was terminated",
			}}
			cs.Ready = false
			no := false
			cs.Started = &no
		}
	}
	if d.started {
		for i := range s.ContainerStatuses {
			if cs := &s.ContainerStatuses[i]; d.o.Verdict == nil || cs.ContainerID != "" {
				lost(cs)
			}
		}
	}
	// Init containers before the last one that began must have begun too.
	began := -1
	for i, cs := range s.InitContainerStatuses {
		if cs.State.Terminated != nil || cs.State.Running != nil || cs.LastTerminationState.Terminated != nil {
			began = i
		}
	}
	for i := 0; i <= began; i++ {
		lost(&s.InitContainerStatuses[i])
	}
	if !terminal(s.Phase) {
		s.Phase = corev1.PodFailed
		if p := d.computePhase(s); terminal(p) && d.verdict == nil {
			s.Phase = p
		}
	}
}
