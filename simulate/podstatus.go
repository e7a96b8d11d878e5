package simulate

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ownConditions are those the node agent writes, in the order people are used
// to; all others come before them.
var ownConditions = []corev1.PodConditionType{
	corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled,
}

// status is what there is to report of a pod.
func (p *pod) status() corev1.PodStatus {
	up := p.stage == running
	s := corev1.PodStatus{
		ObservedGeneration: p.meta.Generation, Phase: p.phase(), Reason: p.reason, Message: p.message, QOSClass: p.shape.qos,
		HostIP: p.node.ip, HostIPs: []corev1.HostIP{{IP: p.node.ip}}, StartTime: stamp(p.started),
	}
	if p.ip != "" {
		s.PodIP, s.PodIPs = p.ip, []corev1.PodIP{{IP: p.ip}}
	}
	if r := p.shape.resources; r != nil {
		s.Resources, s.AllocatedResources = r, r.Requests
	}
	if p.reason == "" { // else nothing was ever made
		for i := range p.shape.init {
			s.InitContainerStatuses = append(s.InitContainerStatuses, p.initStatus(&p.shape.init[i]))
		}
		for i := range p.shape.main {
			s.ContainerStatuses = append(s.ContainerStatuses, p.containerStatus(&p.shape.main[i]))
		}
	}
	s.Conditions = append(make([]corev1.PodCondition, 0, len(p.conditions)+len(ownConditions)), p.conditions...)
	set := func(t corev1.PodConditionType, ok bool, since time.Time, reason, message string) {
		c := corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: *stamp(since), ObservedGeneration: p.meta.Generation}
		if !ok {
			c.Status, c.Reason, c.Message = corev1.ConditionFalse, reason, message
		}
		s.Conditions = append(s.Conditions, c)
	}
	first := p.began
	if first.IsZero() {
		first = p.started
	}
	changed := first
	if !up && !p.ceased.IsZero() {
		changed = p.ceased
	}
	reason, message := "ContainersNotReady", ""
	switch s.Phase {
	case corev1.PodSucceeded:
		reason = "PodCompleted"
	case corev1.PodFailed:
		reason = "PodFailed"
	default:
		if !up {
			message = fmt.Sprintf("containers with unready status: [%s]", strings.Join(names(p.shape.main), " "))
		}
	}
	set(corev1.PodReadyToStartContainers, up || p.stage == crashed, changed, "", "")
	set(corev1.PodInitialized, len(p.shape.init) == 0 || !p.began.IsZero(), first, "ContainersNotInitialized",
		fmt.Sprintf("containers with incomplete status: [%s]", strings.Join(names(p.shape.init), " ")))
	set(corev1.PodReady, up, changed, reason, message)
	set(corev1.ContainersReady, up, changed, reason, message)
	set(corev1.PodScheduled, true, p.started, "", "")
	return s
}

func (p *pod) phase() corev1.PodPhase {
	switch {
	case p.stage == waiting:
		return corev1.PodPending
	case p.stage < ended:
		return corev1.PodRunning
	case p.failed:
		return corev1.PodFailed
	}
	return corev1.PodSucceeded
}

func names(all []container) []string {
	out := make([]string, len(all))
	for i := range all {
		out[i] = all[i].name
	}
	return out
}

func stamp(t time.Time) *metav1.Time {
	s := metav1.NewTime(t.Truncate(time.Second))
	return &s
}

func (p *pod) base(c *container) corev1.ContainerStatus {
	started := false
	s := corev1.ContainerStatus{Name: c.name, Image: c.image, Started: &started, RestartCount: p.restarts}
	for _, m := range c.mounts {
		if m.Name == tokenVolume {
			m.Name = p.token
		}
		s.VolumeMounts = append(s.VolumeMounts, m)
	}
	s.Resources, s.AllocatedResources = c.resources, c.resources.Requests
	return s
}

func (p *pod) id(c *container, run int32) string {
	return fmt.Sprintf("simulate://%s-%s-%d", p.meta.UID, c.name, run)
}

func (p *pod) containerStatus(c *container) corev1.ContainerStatus {
	s := p.base(c)
	if p.began.IsZero() {
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
		if len(p.shape.init) > 0 {
			s.State.Waiting.Reason = "PodInitializing"
		}
		return s
	}
	s.ImageID, s.ContainerID = c.image, p.id(c, p.restarts)
	end := &corev1.ContainerStateTerminated{
		ExitCode: p.exitCode, Reason: "Completed", StartedAt: *stamp(p.began), FinishedAt: *stamp(p.ceased), ContainerID: s.ContainerID,
	}
	if p.exitCode != 0 {
		end.Reason = "Error"
	}
	switch p.stage {
	case running:
		*s.Started, s.Ready = true, true
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: *stamp(p.began)}
		if p.restarts > 0 && !p.ceased.IsZero() {
			end.ContainerID, end.StartedAt = p.id(c, p.restarts-1), end.FinishedAt
			s.LastTerminationState.Terminated = end
		}
	case crashed:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
			p.backoff, c.name, p.meta.Name, p.meta.Namespace, p.meta.UID)}
		s.LastTerminationState.Terminated = end
	default:
		s.State.Terminated = end
	}
	return s
}

// initStatus is that of a container which ran to its end at once, or of a
// sidecar, which runs as the main ones do.
func (p *pod) initStatus(c *container) corev1.ContainerStatus {
	if c.sidecar {
		return p.containerStatus(c)
	}
	s := p.base(c)
	s.RestartCount = 0
	if p.began.IsZero() {
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "PodInitializing"}
		return s
	}
	s.ImageID, s.ContainerID, s.Ready = c.image, p.id(c, 0), true
	s.State.Terminated = &corev1.ContainerStateTerminated{Reason: "Completed", StartedAt: *stamp(p.started), FinishedAt: *stamp(p.began), ContainerID: s.ContainerID}
	return s
}
