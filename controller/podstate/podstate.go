// Package podstate answers the questions that several controllers ask about a
// pod, is it ready, available, active, and since when, and evicts it.
package podstate

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Condition returns a pod's condition of a type; nil when it has none.
func Condition(p *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

// Ready says whether the pod's Ready condition is true.
func Ready(p *corev1.Pod) bool {
	c := Condition(p, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// ReadySince is when the pod became ready; zero when it is not.
func ReadySince(p *corev1.Pod) time.Time {
	if c := Condition(p, corev1.PodReady); c != nil && c.Status == corev1.ConditionTrue {
		return c.LastTransitionTime.Time
	}
	return time.Time{}
}

// AvailableIn says how long until a ready pod has been so for minReadySeconds;
// zero when it has. ok is false for a pod that is not ready.
func AvailableIn(p *corev1.Pod, minReadySeconds int32, now time.Time) (wait time.Duration, ok bool) {
	d := digestOf(p)
	return d.AvailableIn(minReadySeconds, now)
}

// Available says whether the pod has been ready for minReadySeconds.
func Available(p *corev1.Pod, minReadySeconds int32, now time.Time) bool {
	wait, ok := AvailableIn(p, minReadySeconds, now)
	return ok && wait == 0
}

// Finished says whether all the pod's containers have ended for good.
func Finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// Active says whether the pod counts as a replica: neither finished nor being
// deleted.
func Active(p *corev1.Pod) bool { return !Finished(p) && p.DeletionTimestamp == nil }

// Terminating says whether the pod is being deleted but still runs.
func Terminating(p *corev1.Pod) bool { return !Finished(p) && p.DeletionTimestamp != nil }

// SetCondition sets a condition and says whether that changed anything. The
// transition time moves only with the status.
func SetCondition(s *corev1.PodStatus, c corev1.PodCondition) bool {
	for i := range s.Conditions {
		old := &s.Conditions[i]
		if old.Type != c.Type {
			continue
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		if *old == c {
			return false
		}
		*old = c
		return true
	}
	s.Conditions = append(s.Conditions, c)
	return true
}
