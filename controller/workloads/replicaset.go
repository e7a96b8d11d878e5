package workloads

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sagong/client"
	"sagong/object/equal"
	"sagong/reconcile"
)

// NewReplicaSet returns the controller of ReplicaSets.
func NewReplicaSet(h *reconcile.Hub, events client.Recorder) reconcile.Controller {
	sets, pods := reconcile.ViewOf[*appsv1.ReplicaSet](h), reconcile.ViewOf[*corev1.Pod](h)
	reconcile.IndexOwners(sets)
	reconcile.IndexOwners(pods)
	return newReplicaController(h, events, replicaKind[*appsv1.ReplicaSet]{
		name:     "replicaset",
		replicas: func(s *appsv1.ReplicaSet) int32 { return orOne(s.Spec.Replicas) },
		minReady: func(s *appsv1.ReplicaSet) int32 { return s.Spec.MinReadySeconds },
		selector: func(s *appsv1.ReplicaSet) (labels.Selector, error) {
			return metav1.LabelSelectorAsSelector(s.Spec.Selector)
		},
		template: func(s *appsv1.ReplicaSet) *corev1.PodTemplateSpec { return &s.Spec.Template },
		failing: func(s *appsv1.ReplicaSet) bool {
			return replicaSetCondition(s.Status.Conditions, appsv1.ReplicaSetReplicaFailure) != nil
		},
		with: replicaSetWith,
		same: func(a, b *appsv1.ReplicaSet) bool { return equal.Semantic(&a.Status, &b.Status) },
		// The pods of all sets of one Deployment are one crowd: a new set
		// should not be thinned out where the old one still runs.
		related: func(s *appsv1.ReplicaSet, own []*corev1.Pod) []*corev1.Pod {
			ref := metav1.GetControllerOfNoCopy(s)
			if ref == nil {
				return own
			}
			var all []*corev1.Pod
			for _, sibling := range reconcile.OwnedBy(sets, ref.UID) {
				all = append(all, reconcile.OwnedBy(pods, sibling.UID)...)
			}
			return all
		},
	})
}

func replicaSetWith(s *appsv1.ReplicaSet, r replicaStatus, now time.Time) *appsv1.ReplicaSet {
	next := s.DeepCopy()
	next.Status.Replicas = r.Replicas
	next.Status.FullyLabeledReplicas = r.FullyLabeled
	next.Status.ReadyReplicas = r.Ready
	next.Status.AvailableReplicas = r.Available
	next.Status.TerminatingReplicas = r.Terminating
	next.Status.ObservedGeneration = r.ObservedGeneration
	var kept []appsv1.ReplicaSetCondition
	for _, c := range next.Status.Conditions {
		if c.Type != appsv1.ReplicaSetReplicaFailure {
			kept = append(kept, c)
		}
	}
	if r.Failure != nil {
		failed := appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue,
			Reason: r.Failure.Reason, Message: r.Failure.Message, LastTransitionTime: metav1.NewTime(now),
		}
		if old := replicaSetCondition(s.Status.Conditions, failed.Type); old != nil && old.Reason == failed.Reason {
			failed = *old
		}
		kept = append(kept, failed)
	}
	next.Status.Conditions = kept
	return next
}

func replicaSetCondition(cs []appsv1.ReplicaSetCondition, t appsv1.ReplicaSetConditionType) *appsv1.ReplicaSetCondition {
	for i := range cs {
		if cs[i].Type == t {
			return &cs[i]
		}
	}
	return nil
}

// orOne is a replica count, which defaulting has set to one when it was absent.
func orOne(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}
