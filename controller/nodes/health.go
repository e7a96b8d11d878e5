// Package nodes holds the controllers that watch over nodes: whether they still
// report, what their state means for pods on them, and which pod addresses are
// theirs.
package nodes

import (
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/object"
)

const (
	// leaseNamespace holds one Lease a node, which its agent renews.
	leaseNamespace = corev1.NamespaceNodeLease
	// grace is how long a node may be silent, startupGrace how long a new one
	// may take to say its first word.
	grace        = 50 * time.Second
	startupGrace = 60 * time.Second
)

// heartbeat is the last sign of life seen of a node. Times in renewals are the
// node's own, so what counts is when they were seen to change.
type heartbeat struct {
	renewed time.Time // of the lease
	lease   object.Revision
	posted  time.Time // heartbeat of the Ready condition
	status  corev1.ConditionStatus
	seen    time.Time
	// everSeen is false while the node has not posted a Ready condition.
	everSeen bool
}

// beat takes in what is to be seen of a node now.
func (h heartbeat) beat(n *corev1.Node, lease *coordinationv1.Lease, now time.Time) heartbeat {
	next := h
	// The view may show one that is older than what was read.
	if lease != nil && lease.Spec.RenewTime != nil && object.RevisionOf(lease) >= h.lease {
		next.renewed, next.lease = lease.Spec.RenewTime.Time, object.RevisionOf(lease)
	}
	if c := nodeCondition(n, corev1.NodeReady); c != nil {
		// Our own verdict is not a sign of life.
		if c.Status != corev1.ConditionUnknown || c.LastHeartbeatTime.Time.After(h.posted) {
			next.posted, next.status = c.LastHeartbeatTime.Time, c.Status
		}
		next.everSeen = next.everSeen || c.Reason != reasonNeverUpdated
	}
	switch {
	case h.seen.IsZero() && !next.everSeen && next.renewed.IsZero():
		next.seen = n.CreationTimestamp.Time
	case h.seen.IsZero(), next.renewed.After(h.renewed), next.posted.After(h.posted), next.everSeen && !h.everSeen:
		next.seen = now
	}
	return next
}

// silentIn says how long until a node counts as silent; zero when it does.
func (h heartbeat) silentIn(now time.Time) time.Duration {
	limit := grace
	if !h.everSeen {
		limit = startupGrace
	}
	return max(0, h.seen.Add(limit).Sub(now))
}

const (
	reasonNeverUpdated = "NodeStatusNeverUpdated"
	reasonUnknown      = "NodeStatusUnknown"
)

// unknownConditions are the conditions of a node that has fallen silent, and
// whether that differs from those it has.
func unknownConditions(n *corev1.Node, now time.Time) (out []corev1.NodeCondition, changed bool) {
	out = slices.Clone(n.Status.Conditions)
	for _, t := range []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		i := slices.IndexFunc(out, func(c corev1.NodeCondition) bool { return c.Type == t })
		switch {
		case i < 0:
			out = append(out, corev1.NodeCondition{
				Type: t, Status: corev1.ConditionUnknown, Reason: reasonNeverUpdated, Message: "Kubelet never posted node status.",
				LastHeartbeatTime: n.CreationTimestamp, LastTransitionTime: metav1.NewTime(now),
			})
		case out[i].Status != corev1.ConditionUnknown:
			out[i].Status, out[i].Reason, out[i].Message = corev1.ConditionUnknown, reasonUnknown, "Kubelet stopped posting node status."
			out[i].LastTransitionTime = metav1.NewTime(now)
		default:
			continue
		}
		changed = true
	}
	return out, changed
}

func nodeCondition(n *corev1.Node, t corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == t {
			return &n.Status.Conditions[i]
		}
	}
	return nil
}

// readiness is the status of the Ready condition; Unknown when there is none.
func readiness(n *corev1.Node) corev1.ConditionStatus {
	if c := nodeCondition(n, corev1.NodeReady); c != nil {
		return c.Status
	}
	return corev1.ConditionUnknown
}
