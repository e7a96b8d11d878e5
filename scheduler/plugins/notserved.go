package plugins

import (
	corev1 "k8s.io/api/core/v1"

	"sagong/scheduler/state"
)

// NotServed stands for a rule of upstream's that this scheduler has not: pods
// that need it stay Pending and say why, as placing them by half of what they
// ask for would be worse.
type NotServed struct {
	name   string
	needs  func(*corev1.Pod) bool
	reason string
}

// noGroups stands for scheduling by groups where that is switched off.
var noGroups = NotServed{"GangScheduling", func(p *corev1.Pod) bool { return p.Spec.SchedulingGroup != nil }, "scheduling groups are not served by this version"}

// Name implements Plugin.
func (f NotServed) Name() string { return f.name }

// Helps implements Plugin.
func (NotServed) Helps() Change { return PodChanged }

// Begin implements PreFilter.
func (f NotServed) Begin(c *Class, _ *state.State) (NodeFilter, *No) {
	if f.needs(c.Pod) {
		return nil, RefuseFinally(f.reason)
	}
	return nil, nil
}
