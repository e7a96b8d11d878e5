package pod

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// conditions sets the pod conditions that the node owns.
func (d *decider) conditions(s *corev1.PodStatus) {
	set := func(t corev1.PodConditionType, ok bool, reason, message string) {
		SetCondition(s, corev1.PodCondition{Type: t, Status: conditionStatus(ok), Reason: reason, Message: message, ObservedGeneration: d.p.Generation}, stamp(d.now).Time.Unix())
	}
	set(corev1.PodReadyToStartContainers, d.o.Sandbox.State == SandboxReady && !terminal(s.Phase), "", "")

	reason, message := "", ""
	initialised := true
	switch {
	case s.Phase == corev1.PodSucceeded:
		reason = "PodCompleted"
	case d.started:
	default:
		var open []string
		for _, cs := range s.InitContainerStatuses {
			m, _ := d.member(cs.Name)
			if m.Class == Sidecar && (cs.Started == nil || !*cs.Started) || m.Class == Init && !cs.Ready {
				open = append(open, cs.Name)
			}
		}
		if len(open) > 0 {
			initialised, reason = false, "ContainersNotInitialized"
			message = fmt.Sprintf("containers with incomplete status: [%s]", strings.Join(open, " "))
		}
	}
	set(corev1.PodInitialized, initialised, reason, message)

	ready, reason, message := d.containersReady(s)
	set(corev1.ContainersReady, ready, reason, message)
	if ready {
		var gates []string
		for _, g := range d.p.Spec.ReadinessGates {
			c := FindCondition(s, g.ConditionType)
			switch {
			case c == nil:
				gates = append(gates, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", string(g.ConditionType)))
			case c.Status != corev1.ConditionTrue:
				gates = append(gates, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", string(g.ConditionType), c.Status))
			}
		}
		if len(gates) > 0 {
			ready, reason, message = false, "ReadinessGatesNotReady", strings.Join(gates, ", ")
		}
	}
	set(corev1.PodReady, ready, reason, message)
	set(corev1.PodScheduled, true, "", "")
	if v := d.verdict; v != nil && v.Disrupted {
		set(corev1.DisruptionTarget, true, "TerminationByKubelet", v.Message)
	}
	if r := d.o.Resize; r != nil {
		c := *r
		c.ObservedGeneration = d.p.Generation
		SetCondition(s, c, stamp(d.now).Time.Unix())
	} else {
		dropCondition(s, corev1.PodResizePending)
		dropCondition(s, corev1.PodResizeInProgress)
	}
}

func (d *decider) containersReady(s *corev1.PodStatus) (ok bool, reason, message string) {
	switch s.Phase {
	case corev1.PodSucceeded:
		return false, "PodCompleted", ""
	case corev1.PodFailed:
		return false, "PodFailed", ""
	}
	var unready []string
	for _, cs := range s.InitContainerStatuses {
		if m, _ := d.member(cs.Name); m.Class == Sidecar && !cs.Ready {
			unready = append(unready, cs.Name)
		}
	}
	for _, cs := range s.ContainerStatuses {
		if !cs.Ready {
			unready = append(unready, cs.Name)
		}
	}
	if len(unready) > 0 {
		return false, "ContainersNotReady", fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready, " "))
	}
	return true, "", ""
}

func conditionStatus(ok bool) corev1.ConditionStatus {
	if ok {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

// FindCondition returns a condition of a pod, or nil.
func FindCondition(s *corev1.PodStatus, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t {
			return &s.Conditions[i]
		}
	}
	return nil
}

// SetCondition adds or replaces a condition. Its transition time is now (in
// Unix seconds) only when its status changes.
func SetCondition(s *corev1.PodStatus, c corev1.PodCondition, now int64) {
	old := FindCondition(s, c.Type)
	if old == nil {
		c.LastTransitionTime = unix(now)
		s.Conditions = append(s.Conditions, c)
		return
	}
	c.LastTransitionTime, c.LastProbeTime = old.LastTransitionTime, old.LastProbeTime
	if old.Status != c.Status {
		c.LastTransitionTime = unix(now)
	}
	*old = c
}

func dropCondition(s *corev1.PodStatus, t corev1.PodConditionType) {
	kept := s.Conditions[:0]
	for _, c := range s.Conditions {
		if c.Type != t {
			kept = append(kept, c)
		}
	}
	s.Conditions = kept
}
