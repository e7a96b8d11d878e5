package plugins

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"sagong/scheduler/state"
)

// TaintToleration keeps pods off nodes with taints they do not tolerate, and
// prefers nodes with fewer PreferNoSchedule taints.
type TaintToleration struct{}

// Name implements Plugin.
func (TaintToleration) Name() string { return "TaintToleration" }

// Helps implements Plugin.
func (TaintToleration) Helps() Change { return NodeChanged | PodChanged }

// Filter implements Filter.
func (TaintToleration) Filter(c *Class, n *state.Node) *No {
	for i := range n.Object.Spec.Taints {
		t := &n.Object.Spec.Taints[i]
		if (t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute) && !tolerated(c.Pod.Spec.Tolerations, t) {
			return untolerated
		}
	}
	return nil
}

var untolerated = RefuseFinally("node(s) had untolerated taint(s)")

// Prefers implements Relative.
func (TaintToleration) Prefers(*Class) bool { return true }

// Score implements Relative: the number of taints that would rather not have it.
func (TaintToleration) Score(c *Class, n *state.Node) int64 {
	var count int64
	for i := range n.Object.Spec.Taints {
		t := &n.Object.Spec.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule && !tolerated(c.Pod.Spec.Tolerations, t) {
			count++
		}
	}
	return count
}

// Reverse implements Relative.
func (TaintToleration) Reverse() bool { return true }

// tolerated tells whether one of the tolerations bears a taint.
func tolerated(tolerations []corev1.Toleration, t *corev1.Taint) bool {
	for i := range tolerations {
		if tolerations[i].ToleratesTaint(klog.Logger{}, t, true) {
			return true
		}
	}
	return false
}
