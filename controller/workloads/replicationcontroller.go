package workloads

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sagong/client"
	"sagong/reconcile"
)

// NewReplicationController returns the controller of ReplicationControllers.
func NewReplicationController(h *reconcile.Hub, events client.Recorder) reconcile.Controller {
	return newReplicaController(h, events, replicaKind[*corev1.ReplicationController]{
		name:     "replication-controller",
		replicas: func(s *corev1.ReplicationController) int32 { return orOne(s.Spec.Replicas) },
		minReady: func(s *corev1.ReplicationController) int32 { return s.Spec.MinReadySeconds },
		selector: func(s *corev1.ReplicationController) (labels.Selector, error) {
			return labels.SelectorFromSet(s.Spec.Selector), nil
		},
		template: func(s *corev1.ReplicationController) *corev1.PodTemplateSpec {
			if s.Spec.Template == nil {
				return &corev1.PodTemplateSpec{}
			}
			return s.Spec.Template
		},
		failing: func(s *corev1.ReplicationController) bool {
			return replicationCondition(s.Status.Conditions, corev1.ReplicationControllerReplicaFailure) != nil
		},
		with:    replicationControllerWith,
		same:    func(a, b *corev1.ReplicationController) bool { return equality.Semantic.DeepEqual(a.Status, b.Status) },
		related: func(_ *corev1.ReplicationController, own []*corev1.Pod) []*corev1.Pod { return own },
	})
}

func replicationControllerWith(s *corev1.ReplicationController, r replicaStatus, now time.Time) *corev1.ReplicationController {
	next := s.DeepCopy()
	next.Status.Replicas = r.Replicas
	next.Status.FullyLabeledReplicas = r.FullyLabeled
	next.Status.ReadyReplicas = r.Ready
	next.Status.AvailableReplicas = r.Available
	next.Status.ObservedGeneration = r.ObservedGeneration
	var kept []corev1.ReplicationControllerCondition
	for _, c := range next.Status.Conditions {
		if c.Type != corev1.ReplicationControllerReplicaFailure {
			kept = append(kept, c)
		}
	}
	if r.Failure != nil {
		failed := corev1.ReplicationControllerCondition{
			Type: corev1.ReplicationControllerReplicaFailure, Status: corev1.ConditionTrue,
			Reason: r.Failure.Reason, Message: r.Failure.Message, LastTransitionTime: metav1.NewTime(now),
		}
		if old := replicationCondition(s.Status.Conditions, failed.Type); old != nil && old.Reason == failed.Reason {
			failed = *old
		}
		kept = append(kept, failed)
	}
	next.Status.Conditions = kept
	return next
}

func replicationCondition(cs []corev1.ReplicationControllerCondition, t corev1.ReplicationControllerConditionType) *corev1.ReplicationControllerCondition {
	for i := range cs {
		if cs[i].Type == t {
			return &cs[i]
		}
	}
	return nil
}
