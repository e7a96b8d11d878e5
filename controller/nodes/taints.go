package nodes

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// conditionTaints are the NoSchedule taints that conditions bring.
var conditionTaints = []struct {
	condition corev1.NodeConditionType
	status    corev1.ConditionStatus
	taint     string
}{
	{corev1.NodeReady, corev1.ConditionFalse, corev1.TaintNodeNotReady},
	{corev1.NodeReady, corev1.ConditionUnknown, corev1.TaintNodeUnreachable},
	{corev1.NodeMemoryPressure, corev1.ConditionTrue, corev1.TaintNodeMemoryPressure},
	{corev1.NodeDiskPressure, corev1.ConditionTrue, corev1.TaintNodeDiskPressure},
	{corev1.NodeNetworkUnavailable, corev1.ConditionTrue, corev1.TaintNodeNetworkUnavailable},
	{corev1.NodePIDPressure, corev1.ConditionTrue, corev1.TaintNodePIDPressure},
}

// ownTaint says whether a taint is this controller's to add and remove.
func ownTaint(t corev1.Taint) bool {
	if t.Effect == corev1.TaintEffectNoExecute {
		return t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable
	}
	if t.Effect != corev1.TaintEffectNoSchedule {
		return false
	}
	return t.Key == corev1.TaintNodeUnschedulable ||
		slices.ContainsFunc(conditionTaints, func(c struct {
			condition corev1.NodeConditionType
			status    corev1.ConditionStatus
			taint     string
		}) bool {
			return c.taint == t.Key
		})
}

// planTaints returns a node's taints as they should be, and whether they differ
// from what they are. Taints of others stay. conditions are the node's, or what
// they are about to become. evict lets NoExecute taints be added; present ones
// that still fit stay either way.
func planTaints(n *corev1.Node, conditions []corev1.NodeCondition, evict bool, now time.Time) (out []corev1.Taint, changed bool) {
	wanted := wantedTaints(n, conditions)
	for _, t := range n.Spec.Taints {
		if !ownTaint(t) {
			out = append(out, t)
			continue
		}
		i := slices.IndexFunc(wanted, func(w corev1.Taint) bool { return w.Key == t.Key && w.Effect == t.Effect })
		if i < 0 {
			changed = true
			continue
		}
		out = append(out, t)
		wanted = slices.Delete(wanted, i, i+1)
	}
	for _, t := range wanted {
		if t.Effect == corev1.TaintEffectNoExecute && !evict {
			continue
		}
		at := metav1.NewTime(now)
		t.TimeAdded = &at
		out = append(out, t)
		changed = true
	}
	return out, changed
}

func wantedTaints(n *corev1.Node, conditions []corev1.NodeCondition) (wanted []corev1.Taint) {
	for _, c := range conditions {
		for _, rule := range conditionTaints {
			if c.Type != rule.condition || c.Status != rule.status {
				continue
			}
			wanted = append(wanted, corev1.Taint{Key: rule.taint, Effect: corev1.TaintEffectNoSchedule})
			if c.Type == corev1.NodeReady {
				wanted = append(wanted, corev1.Taint{Key: rule.taint, Effect: corev1.TaintEffectNoExecute})
			}
		}
	}
	if n.Spec.Unschedulable {
		wanted = append(wanted, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
	}
	return wanted
}

// withoutEviction drops the NoExecute taints of unreachable and unready nodes:
// when no node answers, the fault is more likely here.
func withoutEviction(taints []corev1.Taint) (out []corev1.Taint, changed bool) {
	for _, t := range taints {
		if t.Effect == corev1.TaintEffectNoExecute && ownTaint(t) {
			changed = true
			continue
		}
		out = append(out, t)
	}
	return out, changed
}
