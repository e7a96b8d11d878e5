package plugins

import (
	corev1 "k8s.io/api/core/v1"

	"sagong/scheduler/state"
)

// NodeUnschedulable keeps pods off cordoned nodes.
type NodeUnschedulable struct{}

// Name implements Plugin.
func (NodeUnschedulable) Name() string { return "NodeUnschedulable" }

// Helps implements Plugin.
func (NodeUnschedulable) Helps() Change { return NodeChanged }

// Filter implements Filter.
func (NodeUnschedulable) Filter(c *Class, n *state.Node) *No {
	if !n.Object.Spec.Unschedulable {
		return nil
	}
	taint := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if tolerated(c.Pod.Spec.Tolerations, &taint) {
		return nil
	}
	return cordoned
}

var cordoned = RefuseFinally("node(s) were unschedulable")
