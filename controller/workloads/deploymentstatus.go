package workloads

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/object/equal"
)

const (
	reasonAvailable = "NewReplicaSetAvailable"
	reasonTimedOut  = "ProgressDeadlineExceeded"
	reasonPaused    = "DeploymentPaused"
)

// statusOnly counts pods and says whether enough are available.
func (r *rollout) statusOnly() appsv1.DeploymentStatus {
	d, all := r.d, r.all()
	s := appsv1.DeploymentStatus{
		ObservedGeneration:  d.Generation,
		Replicas:            counted(all),
		AvailableReplicas:   available(all),
		UnavailableReplicas: max(0, sized(all)-available(all)),
		CollisionCount:      d.Status.CollisionCount,
		Conditions:          slices.Clone(d.Status.Conditions),
	}
	if r.new != nil {
		s.UpdatedReplicas = r.new.Status.Replicas
	}
	var terminating int32
	known := true
	for _, rs := range all {
		s.ReadyReplicas += rs.Status.ReadyReplicas
		switch t := rs.Status.TerminatingReplicas; {
		case t != nil:
			terminating += *t
		case r.plan.create != rs:
			known = false // its controller has not said yet
		}
	}
	if known {
		s.TerminatingReplicas = &terminating
	}
	if s.AvailableReplicas >= orOne(d.Spec.Replicas)-maxUnavailable(d) {
		setDeploymentCondition(&s, r.now, appsv1.DeploymentAvailable, corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability.")
	} else {
		setDeploymentCondition(&s, r.now, appsv1.DeploymentAvailable, corev1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
	}
	return s
}

// rolloutStatus is statusOnly and how the rollout progresses.
func (r *rollout) rolloutStatus() appsv1.DeploymentStatus {
	s := r.statusOnly()
	d, current := r.d, deploymentCondition(&r.d.Status, appsv1.DeploymentProgressing)
	subject := fmt.Sprintf("Deployment %q", d.Name)
	if r.new != nil {
		subject = fmt.Sprintf("ReplicaSet %q", r.new.Name)
	}
	switch {
	case !hasDeadline(d):
		dropDeploymentCondition(&s, appsv1.DeploymentProgressing)
	case s.Replicas == s.UpdatedReplicas && current != nil && current.Reason == reasonAvailable:
		// Complete before: losing pods now is not a rollout.
	case r.complete(s):
		setDeploymentCondition(&s, r.now, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonAvailable, subject+" has successfully progressed.")
	case progressed(&d.Status, &s):
		var since time.Time
		if current != nil {
			if current.Status == corev1.ConditionTrue {
				since = current.LastTransitionTime.Time
			}
			dropDeploymentCondition(&s, appsv1.DeploymentProgressing) // the update time must move
		}
		setDeploymentCondition(&s, r.now, appsv1.DeploymentProgressing, corev1.ConditionTrue, "ReplicaSetUpdated", subject+" is progressing.")
		if !since.IsZero() {
			deploymentCondition(&s, appsv1.DeploymentProgressing).LastTransitionTime = metav1.NewTime(since)
		}
	case timedOut(d, &s, r.now):
		setDeploymentCondition(&s, r.now, appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonTimedOut, subject+" has timed out progressing.")
	}
	if c := r.failure(); c != nil {
		setDeploymentCondition(&s, r.now, appsv1.DeploymentReplicaFailure, c.Status, c.Reason, c.Message)
	} else {
		dropDeploymentCondition(&s, appsv1.DeploymentReplicaFailure)
	}
	if c := deploymentCondition(&s, appsv1.DeploymentProgressing); hasDeadline(d) && c != nil && c.Reason != reasonTimedOut && !r.complete(s) &&
		(c.Reason != reasonAvailable || s.Replicas != s.UpdatedReplicas) {
		// The deadline counts whole seconds; one more makes sure it has passed.
		deadline := c.LastUpdateTime.Add(time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second)
		r.plan.after = max(0, deadline.Sub(r.now)) + time.Second
	}
	return s
}

// failure is the ReplicaFailure condition of the new set or else of any.
func (r *rollout) failure() *appsv1.ReplicaSetCondition {
	for _, rs := range slices.Backward(r.all()) {
		if c := replicaSetCondition(rs.Status.Conditions, appsv1.ReplicaSetReplicaFailure); c != nil {
			return c
		}
	}
	return nil
}

// complete says whether all of d's pods, and no others, are of the current
// template and available.
func (r *rollout) complete(s appsv1.DeploymentStatus) bool {
	want := orOne(r.d.Spec.Replicas)
	return s.UpdatedReplicas == want && s.Replicas == want && s.AvailableReplicas == want && s.ObservedGeneration >= r.d.Generation
}

// progressed says whether a rollout has come further between two observations.
func progressed(old, new *appsv1.DeploymentStatus) bool {
	return new.UpdatedReplicas > old.UpdatedReplicas ||
		new.Replicas-new.UpdatedReplicas < old.Replicas-old.UpdatedReplicas ||
		new.ReadyReplicas > old.ReadyReplicas ||
		new.AvailableReplicas > old.AvailableReplicas
}

func timedOut(d *appsv1.Deployment, s *appsv1.DeploymentStatus, now time.Time) bool {
	c := deploymentCondition(s, appsv1.DeploymentProgressing)
	if c == nil || c.Reason == reasonAvailable {
		return false
	}
	return c.Reason == reasonTimedOut ||
		c.LastUpdateTime.Add(time.Duration(*d.Spec.ProgressDeadlineSeconds)*time.Second).Before(now)
}

// notePause keeps the Progressing condition in step with spec.paused, so that
// the deadline does not run meanwhile.
func (r *rollout) notePause() {
	c := deploymentCondition(&r.d.Status, appsv1.DeploymentProgressing)
	if !hasDeadline(r.d) || (c != nil && c.Reason == reasonTimedOut) {
		return
	}
	noted := c != nil && c.Reason == reasonPaused
	switch {
	case r.d.Spec.Paused && !noted:
		r.condition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonPaused, "Deployment is paused")
	case !r.d.Spec.Paused && noted:
		r.condition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, "DeploymentResumed", "Deployment is resumed")
	}
}

func (r *rollout) condition(t appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	setDeploymentCondition(&r.d.Status, r.now, t, status, reason, message)
}

func hasDeadline(d *appsv1.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds != math.MaxInt32
}

func deploymentCondition(s *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t {
			return &s.Conditions[i]
		}
	}
	return nil
}

// setDeploymentCondition leaves a condition of the same status and reason alone;
// the transition time moves only with the status.
func setDeploymentCondition(s *appsv1.DeploymentStatus, now time.Time, t appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	c := appsv1.DeploymentCondition{
		Type: t, Status: status, Reason: reason, Message: message,
		LastUpdateTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now),
	}
	if old := deploymentCondition(s, t); old != nil {
		if old.Status == status && old.Reason == reason {
			return
		}
		if old.Status == status {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	dropDeploymentCondition(s, t)
	s.Conditions = append(s.Conditions, c)
}

func dropDeploymentCondition(s *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) {
	s.Conditions = slices.DeleteFunc(slices.Clone(s.Conditions), func(c appsv1.DeploymentCondition) bool { return c.Type == t })
	if len(s.Conditions) == 0 {
		s.Conditions = nil
	}
}

// sameDeploymentStatus says whether writing b over a would change nothing that
// the controller owns.
func sameDeploymentStatus(a, b *appsv1.Deployment) bool {
	return a.Annotations[revisionAnnotation] == b.Annotations[revisionAnnotation] && equal.Semantic(&a.Status, &b.Status)
}
