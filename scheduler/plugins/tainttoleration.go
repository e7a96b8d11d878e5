package plugins

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"sagong/scheduler/state"
)

// TaintToleration keeps pods off nodes with taints they do not tolerate, and
// prefers nodes with fewer PreferNoSchedule taints.
type TaintToleration struct{}

// Name implements Plugin.
func (TaintToleration) Name() string { return "TaintToleration" }

// Helps implements Plugin.
func (TaintToleration) Helps() Change { return NodeChanged | PodChanged }

// Weight implements Static.
func (TaintToleration) Weight() int64 { return 3 }

// Filter implements Filter.
func (TaintToleration) Filter(c *Class, n *state.Node) *No {
	for i := range n.Object.Spec.Taints {
		t := &n.Object.Spec.Taints[i]
		if t.Effect != corev1.TaintEffectNoSchedule && t.Effect != corev1.TaintEffectNoExecute {
			continue
		}
		if !tolerated(c.Pod.Spec.Tolerations, t) {
			return RefuseFinally(fmt.Sprintf("node(s) had untolerated taint {%s: %s}", t.Key, t.Value))
		}
	}
	return nil
}

// Score implements Static: the number of taints that would rather not have it.
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

// Normalize implements Static.
func (TaintToleration) Normalize(scores []int64) { normalize(scores, true) }

func tolerated(tolerations []corev1.Toleration, t *corev1.Taint) bool {
	for i := range tolerations {
		x := &tolerations[i]
		if x.Effect != "" && x.Effect != t.Effect || x.Key != "" && x.Key != t.Key {
			continue
		}
		switch x.Operator {
		case corev1.TolerationOpExists:
			return true
		case "", corev1.TolerationOpEqual:
			if x.Key != "" && x.Value == t.Value {
				return true
			}
		}
	}
	return false
}
