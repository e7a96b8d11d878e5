package scheduler

import (
	"context"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

// trial is how far the pods of a group could be placed together. Those that have
// a node are counted there until the trial is undone.
type trial struct {
	tries []try
	found int
	why   string // it did not work, "" when it did
}

type try struct {
	x    *queued
	plan *plan
	node string // "" when it found none
	no   *unfit
}

// placeGroup places the pods of a group that wait: enough of them, or none.
func (s *Scheduler) placeGroup(ctx context.Context, entry *queued) {
	g := entry.group
	list := g.waits()
	entry.began = s.cfg.Now()
	for _, x := range list {
		x.began = entry.began
		x.attempts++
	}
	p, err := s.sameOfAll(g, list)
	if err != nil {
		s.faultOfGroup(g, list, err)
		return
	}
	// Room that they wait for is theirs, whichever of them gets it.
	nominated := map[types.UID]string{}
	for _, x := range list {
		if n := s.state.NominatedTo(x.pod.UID); n != "" {
			nominated[x.pod.UID] = n
			s.state.Denominate(x.pod.UID)
		}
	}
	t := s.try(p, g, list, nominated)
	if t.why != "" {
		s.undo(p, t)
		s.parkGroup(p, g, list, t, nominated)
		return
	}
	var bound []write
	var helps plugins.Change
	for _, y := range t.tries {
		if y.node == "" {
			helps |= y.no.helps
			continue
		}
		g.count[isWaiting]--
		g.count[isPlaced]++
		y.x.stage, y.x.said = isPlaced, ""
		if w := s.binding(ctx, p, y.x, y.node); w != nil {
			bound = append(bound, *w)
		}
	}
	if len(bound) > 0 {
		s.writes <- bound
	}
	if len(nominated) > 0 {
		s.changes |= plugins.PodGone // what it did not take is anybody's
	}
	for _, y := range t.tries {
		if y.node == "" {
			s.refuse(p, y.x, y.no.message())
		}
	}
	g.said = &metav1.Condition{Type: schedulingv1beta1.PodGroupInitiallyScheduled, Status: metav1.ConditionTrue, Reason: initiallyScheduled}
	s.groupCondition(g)
	entry.attempts = 0
	if g.ready() {
		s.queue.fail(entry, helps|plugins.PodChanged, s.cfg.Now())
	}
	s.enqueue(g, false, "")
}

// sameOfAll checks that a group's pods agree on what they must, and returns the
// profile that places them.
func (s *Scheduler) sameOfAll(g *podGroup, list []*queued) (*profile, error) {
	first := list[0].pod
	policy := func(p *corev1.Pod) corev1.PreemptionPolicy {
		if p.Spec.PreemptionPolicy == nil {
			return corev1.PreemptLowerPriority
		}
		return *p.Spec.PreemptionPolicy
	}
	agrees := func(p *corev1.Pod) error {
		if p.Spec.SchedulerName != first.Spec.SchedulerName {
			return fmt.Errorf("all pods in a pod group hierarchy should have the same .spec.schedulerName set, got: %q (%q) and %q (%q)", p.Spec.SchedulerName, p.Name, first.Spec.SchedulerName, first.Name)
		}
		if have := corev1helpers.PodPriority(p); have != g.priority() {
			return fmt.Errorf("all pods in a pod group hierarchy should have the same priority as the root pod group's priority, got %d (%q) and %d (%q)", have, p.Name, g.priority(), g.object.Namespace+"/"+g.object.Name)
		}
		if policy(p) != policy(first) {
			return fmt.Errorf("all pods in a pod group hierarchy should have the same preemption policy, got %v (%q) and %v (%q)", policy(p), p.Name, policy(first), first.Name)
		}
		return nil
	}
	for _, x := range list {
		if err := agrees(x.pod); err != nil {
			return nil, err
		}
	}
	for _, x := range g.pods {
		if x.stage == isPlaced {
			if err := agrees(x.pod); err != nil {
				return nil, err
			}
		}
	}
	return s.profiles[first.Spec.SchedulerName], nil
}

// try finds nodes for the pods of a group, one after the other, each seeing those
// before it where they would be.
func (s *Scheduler) try(p *profile, g *podGroup, list []*queued, nominated map[types.UID]string) *trial {
	t := &trial{tries: make([]try, 0, len(list))}
	remaining, hopeless := len(list), false
	if t.why, hopeless = g.feasible(g.count[isPlaced], remaining); hopeless {
		return t
	}
	for _, x := range list {
		y := try{x: x}
		var at *state.Node
		if y.plan, y.no = s.planFor(p, x); y.no == nil {
			at, y.plan, y.no = s.findAt(p, y.plan, x, nominated[x.pod.UID])
		}
		switch {
		case y.no == nil && at == nil:
			y.no = y.plan.why()
		case y.no == nil:
			if y.no = s.reserve(p, y.plan, x, at); y.no == nil {
				y.node = at.Name
				t.found++
			}
		}
		t.tries = append(t.tries, y)
		remaining--
		if t.why, hopeless = g.feasible(g.count[isPlaced]+t.found, remaining); hopeless {
			return t
		}
	}
	if t.why == "" && t.found == 0 {
		t.why = "no pods were schedulable"
	}
	return t
}

// findAt chooses a node for a pod, the preferred one if that will do.
func (s *Scheduler) findAt(p *profile, pl *plan, x *queued, preferred string) (*state.Node, *plan, *unfit) {
	if !pl.refresh() {
		var no *unfit
		if pl, no = s.planFor(p, x); no != nil {
			return nil, nil, no
		}
	}
	if n := s.state.Node(preferred); n != nil && !pl.confined(n) && pl.fits(n, x.pod.UID) == nil {
		return n, pl, nil
	}
	return pl.pick(), pl, nil
}

// undo takes the pods of a trial off their nodes again. Nothing has changed then,
// whatever rules say that take back what they reserved.
func (s *Scheduler) undo(p *profile, t *trial) {
	was := s.changes
	defer func() { s.changes = was }()
	for i := len(t.tries) - 1; i >= 0; i-- {
		y := &t.tries[i]
		if y.node == "" {
			continue
		}
		for _, r := range p.rules {
			if u, ok := r.(plugins.Reserver); ok {
				u.Unreserve(y.x.pod, y.node)
			}
		}
		s.state.Remove(y.x.pod.UID)
	}
}

// parkGroup sets a group aside that could not be placed, having asked others to
// make room for it if it may, and tells its owner why.
func (s *Scheduler) parkGroup(p *profile, g *podGroup, list []*queued, t *trial, nominated map[types.UID]string) {
	var helps plugins.Change
	own := map[*queued]string{}
	for i := range t.tries {
		if y := &t.tries[i]; y.no != nil {
			helps |= y.no.helps
			own[y.x] = y.no.message()
		}
	}
	whole := t.why
	var target map[types.UID]string
	if p.preempts && len(t.tries) > 0 {
		var said string
		if target, said = s.preemptForGroup(p, g, list, nominated); said != "" {
			whole = strings.Join([]string{t.why, said}, ", ")
		}
	}
	for uid, node := range target {
		s.state.Nominate(g.pods[uid].pod, node)
		if n := s.state.Node(node); n != nil {
			s.displace(n, g.priority())
		}
	}
	if len(nominated) > 0 && !maps.Equal(nominated, target) {
		s.changes |= plugins.PodGone // room that it waited for is anybody's
	}
	now := s.cfg.Now()
	s.queue.fail(g.entry, helps|plugins.PodChanged|plugins.PodGone|plugins.NodeChanged, now)
	if again := len(target) > 0 && !s.makingRoom(g, target); again && !g.again {
		g.again = true
		s.queue.wakeOne(g.entry, now, podUpdate) // there is room, on other nodes
	} else {
		g.again = false
	}
	for i, x := range list {
		why, ok := own[x]
		switch {
		case ok:
		case i < len(t.tries):
			why = whole
		default:
			why = t.why // it was not looked at
		}
		s.refuse(p, x, why)
	}
	g.said = &metav1.Condition{Type: schedulingv1beta1.PodGroupInitiallyScheduled, Status: metav1.ConditionFalse, Reason: schedulingv1beta1.PodGroupReasonUnschedulable, Message: whole}
	s.groupCondition(g)
}

// refuse tells the owner of a pod why it was not placed.
func (s *Scheduler) refuse(p *profile, x *queued, why string) {
	s.cfg.Metrics.attempt(p.name, "unschedulable", s.cfg.Now().Sub(x.began))
	x.said, x.erred = why, false
	s.events[p.name].Eventf(x.pod, corev1.EventTypeWarning, "FailedScheduling", "%s", why)
	s.condition(x)
}

// faultOfGroup sets a group aside whose pods contradict one another.
func (s *Scheduler) faultOfGroup(g *podGroup, list []*queued, err error) {
	now := s.cfg.Now()
	for _, x := range list {
		if s.state.NominatedTo(x.pod.UID) != "" {
			s.state.Denominate(x.pod.UID)
			s.changes |= plugins.PodGone
		}
		name := x.pod.Spec.SchedulerName
		s.cfg.Metrics.attempt(name, "error", now.Sub(x.began))
		x.said, x.erred = err.Error(), true
		s.events[name].Eventf(x.pod, corev1.EventTypeWarning, "FailedScheduling", "%s", x.said)
		s.condition(x)
	}
	g.said = &metav1.Condition{Type: schedulingv1beta1.PodGroupInitiallyScheduled, Status: metav1.ConditionFalse, Reason: schedulingv1beta1.PodGroupReasonSchedulerError, Message: err.Error()}
	s.groupCondition(g)
	s.queue.fail(g.entry, plugins.PodChanged, now)
}
