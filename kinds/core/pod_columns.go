package core

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/object"
)

func podColumns() []object.TypedColumn[*corev1.Pod] {
	status, spec := corev1.PodStatus{}.SwaggerDoc(), corev1.PodSpec{}.SwaggerDoc()
	return []object.TypedColumn[*corev1.Pod]{
		object.NameColumn[*corev1.Pod](),
		object.StringColumn("Ready", "The aggregate readiness state of this pod for accepting traffic.",
			func(p *corev1.Pod) string {
				s := summarise(p)
				return fmt.Sprintf("%d/%d", s.ready, s.total)
			}),
		object.StringColumn("Status", "The aggregate status of the containers in this pod.",
			func(p *corev1.Pod) string { return summarise(p).reason }),
		object.TimeColumn("Restarts", "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
			func(p *corev1.Pod, now time.Time) string {
				s := summarise(p)
				if s.restarts == 0 || s.lastRestart.IsZero() {
					return strconv.Itoa(s.restarts)
				}
				return fmt.Sprintf("%d (%s ago)", s.restarts, object.Age(s.lastRestart, now))
			}),
		object.AgeColumn[*corev1.Pod](),
		object.StringColumn("IP", status["podIP"], func(p *corev1.Pod) string {
			if len(p.Status.PodIPs) > 0 {
				return p.Status.PodIPs[0].IP
			}
			return orNone(p.Status.PodIP)
		}).Wide(),
		object.StringColumn("Node", spec["nodeName"], func(p *corev1.Pod) string { return orNone(p.Spec.NodeName) }).Wide(),
		object.StringColumn("Nominated Node", status["nominatedNodeName"],
			func(p *corev1.Pod) string { return orNone(p.Status.NominatedNodeName) }).Wide(),
		object.StringColumn("Readiness Gates", spec["readinessGates"], readinessGates).Wide(),
	}
}

// podRowConditions tell readers of tables that a pod has ended.
func podRowConditions(p *corev1.Pod) []metav1.TableRowCondition {
	c := metav1.TableRowCondition{Type: metav1.RowCompleted, Status: metav1.ConditionTrue, Reason: string(p.Status.Phase)}
	switch p.Status.Phase {
	case corev1.PodSucceeded:
		c.Message = "The pod has completed successfully."
	case corev1.PodFailed:
		c.Message = "The pod failed."
	default:
		return nil
	}
	return []metav1.TableRowCondition{c}
}

func readinessGates(p *corev1.Pod) string {
	if len(p.Spec.ReadinessGates) == 0 {
		return "<none>"
	}
	passed := 0
	for _, gate := range p.Spec.ReadinessGates {
		for _, c := range p.Status.Conditions {
			if c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue {
				passed++
				break
			}
		}
	}
	return fmt.Sprintf("%d/%d", passed, len(p.Spec.ReadinessGates))
}

// podSummary is what one line of kubectl get pods says of all containers.
type podSummary struct {
	ready, total, restarts int
	lastRestart            metav1.Time
	reason                 string
}

func (s *podSummary) restarted(c *corev1.ContainerStatus) {
	s.restarts += int(c.RestartCount)
	if t := c.LastTerminationState.Terminated; t != nil && s.lastRestart.Before(&t.FinishedAt) {
		s.lastRestart = t.FinishedAt
	}
}

// summarise follows upstream's precedence: an init container that has not
// passed speaks for the pod, then its containers, the first one loudest, and
// deletion over all.
func summarise(p *corev1.Pod) podSummary {
	s := podSummary{total: len(p.Spec.Containers), reason: string(p.Status.Phase)}
	if p.Status.Reason != "" {
		s.reason = p.Status.Reason
	}
	initialized, ready := false, false
	for _, c := range p.Status.Conditions {
		switch {
		case c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated:
			s.reason = corev1.PodReasonSchedulingGated
		case c.Type == corev1.PodInitialized:
			initialized = c.Status == corev1.ConditionTrue
		case c.Type == corev1.PodReady:
			ready = c.Status == corev1.ConditionTrue
		}
	}
	sidecar := map[string]bool{}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecar[c.Name] = true
			s.total++
		}
	}
	// Once initialised, restarts of ordinary init containers no longer count.
	sidecars := podSummary{}
	initializing := false
	for i := range p.Status.InitContainerStatuses {
		c := &p.Status.InitContainerStatuses[i]
		s.restarted(c)
		if sidecar[c.Name] {
			sidecars.restarted(c)
		}
		if t := c.State.Terminated; t != nil && t.ExitCode == 0 {
			continue
		}
		if sidecar[c.Name] && c.Started != nil && *c.Started {
			if c.Ready {
				s.ready++
			}
			continue
		}
		initializing = true
		switch t, w := c.State.Terminated, c.State.Waiting; {
		case t != nil:
			s.reason = "Init:" + terminationReason(t)
		case w != nil && w.Reason != "" && w.Reason != "PodInitializing":
			s.reason = "Init:" + w.Reason
		default:
			s.reason = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		break
	}
	if !initializing || initialized {
		s.restarts, s.lastRestart = sidecars.restarts, sidecars.lastRestart
		running, failed := false, ""
		for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
			c := &p.Status.ContainerStatuses[i]
			s.restarted(c)
			switch {
			case c.State.Waiting != nil && c.State.Waiting.Reason != "":
				s.reason = c.State.Waiting.Reason
			case c.State.Terminated != nil:
				s.reason = terminationReason(c.State.Terminated)
				if c.State.Terminated.ExitCode != 0 {
					failed = s.reason
				}
			case c.Ready && c.State.Running != nil:
				running = true
				s.ready++
			}
		}
		// That the first container has finished well is not all there is to say.
		if s.reason == "Completed" {
			switch {
			case running && ready:
				s.reason = "Running"
			case failed != "":
				s.reason = failed
			case running:
				s.reason = "NotReady"
			}
		}
	}
	if p.DeletionTimestamp != nil {
		switch {
		case p.Status.Reason == "NodeLost":
			s.reason = "Unknown"
		case p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded:
			s.reason = "Terminating"
		}
	}
	return s
}

func terminationReason(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}
