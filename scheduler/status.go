package scheduler

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// condition has the reason why a pod waits, and the node it waits for, written
// into its status unless they are there.
func (s *Scheduler) condition(x *queued) {
	if x.said == "" {
		return
	}
	nominated, reason := s.state.NominatedTo(x.pod.UID), corev1.PodReasonUnschedulable
	if x.erred {
		reason = corev1.PodReasonSchedulerError
	}
	c := conditionOf(x.pod, corev1.PodScheduled)
	if c != nil && c.Status == corev1.ConditionFalse && c.Reason == reason && c.Message == x.said && x.pod.Status.NominatedNodeName == nominated {
		return
	}
	p := withCondition(x.pod, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: reason, Message: x.said,
	}, s.cfg.Now())
	p.Status.NominatedNodeName = nominated
	s.writes <- []write{{pod: p}}
}

func conditionOf(p *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

// withCondition is a copy of a pod with a condition set.
func withCondition(p *corev1.Pod, set corev1.PodCondition, now time.Time) *corev1.Pod {
	p = p.DeepCopy()
	set.ObservedGeneration = p.Generation
	set.LastTransitionTime = metav1.NewTime(now)
	c := conditionOf(p, set.Type)
	if c == nil {
		p.Status.Conditions = append(p.Status.Conditions, set)
		return p
	}
	if c.Status == set.Status {
		set.LastTransitionTime = c.LastTransitionTime
	}
	*c = set
	return p
}
