package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	"sagong/scheduler/plugins"
)

// podGroup is a PodGroup with its pods. One entry in the queue stands for all of
// them that wait, from when there are enough.
type podGroup struct {
	object *schedulingv1beta1.PodGroup // nil while it is not there
	pods   map[types.UID]*queued
	count  [stages]int
	entry  *queued // its pod is any that waits
	queued bool    // the entry is in the queue
	gated  bool    // it is not ready
	again  bool    // it was tried again for no other reason than that it should fit
	// said is the condition that its status should have; nil before the first
	// attempt.
	said *metav1.Condition
}

// stage is how far a pod of a group has come.
type stage uint8

const (
	isHeld    stage = iota // by scheduling gates, or for claims to be made
	isWaiting              // to be placed
	isPlaced               // has a node, or is being bound to one
	stages
)

// groupClass begins the class of a group's entry, which no pod's class does; the
// group's UID is the rest.
const groupClass = "\x00group\x00"

// uid is what the queue knows a pod by, or the entry of a group.
func (x *queued) uid() types.UID {
	if x.group != nil && x == x.group.entry {
		return types.UID(x.class[len(groupClass):])
	}
	return x.pod.UID
}

// initiallyScheduled is upstream's reason for a group that was placed; the
// package of the API has no name for it.
const initiallyScheduled = "Scheduled"

// groupOf is the name of a pod's group, "" for none.
func groupOf(p *corev1.Pod) string {
	if g := p.Spec.SchedulingGroup; g != nil && g.PodGroupName != nil {
		return *g.PodGroupName
	}
	return ""
}

// least is how many of its pods a group must have on nodes.
func (g *podGroup) least() int {
	if gang := g.object.Spec.SchedulingPolicy.Gang; gang != nil {
		return int(gang.MinCount)
	}
	return 1
}

func (g *podGroup) priority() int32 {
	if g.object.Spec.Priority == nil {
		return 0
	}
	return *g.object.Spec.Priority
}

// whole tells whether a group's pods end together or not at all.
func (g *podGroup) whole() bool {
	return g.object != nil && g.object.Spec.DisruptionMode != nil && g.object.Spec.DisruptionMode.All != nil
}

// ready tells whether there are pods to place, and enough of them.
func (g *podGroup) ready() bool {
	if g.object == nil || g.count[isWaiting] == 0 {
		return false
	}
	return g.object.Spec.SchedulingPolicy.Gang == nil || len(g.pods) >= g.least()
}

// waits returns the pods to place, by priority, then by age.
func (g *podGroup) waits() []*queued {
	list := make([]*queued, 0, g.count[isWaiting])
	for _, x := range g.pods {
		if x.stage == isWaiting {
			list = append(list, x)
		}
	}
	slices.SortFunc(list, func(a, b *queued) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), a.since.Compare(b.since), cmp.Compare(a.pod.UID, b.pod.UID))
	})
	return list
}

// feasible says what stands in the way of a group of which so many pods have
// nodes and so many may yet get one, in upstream's words; hopeless says that the
// rest cannot change that.
func (g *podGroup) feasible(scheduled, remaining int) (why string, hopeless bool) {
	switch least := g.least(); {
	case remaining+scheduled < least:
		return fmt.Sprintf("minCount (%d) cannot be satisfied: %d scheduled, %d remaining", least, scheduled, remaining), true
	case scheduled < least:
		return fmt.Sprintf("minCount (%d) is not yet satisfied: %d scheduled, %d remaining", least, scheduled, remaining), false
	}
	return "", false
}

// group finds or makes the group of a pod.
func (s *Scheduler) group(p *corev1.Pod) *podGroup {
	key := types.NamespacedName{Namespace: p.Namespace, Name: groupOf(p)}
	g := s.groups[key]
	if g == nil {
		g = &podGroup{pods: map[types.UID]*queued{}, gated: true}
		s.groups[key] = g
	}
	return g
}

// groupChanged follows the groups themselves.
func (s *Scheduler) groupChanged(old, new *schedulingv1beta1.PodGroup) {
	o := new
	if o == nil {
		o = old
	}
	key := types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
	g := s.groups[key]
	if g == nil {
		g = &podGroup{pods: map[types.UID]*queued{}, gated: true}
		s.groups[key] = g
	}
	before := g.object
	if new == nil || before != nil && before.UID != new.UID {
		s.dequeue(g)
		g.entry, g.said = nil, nil
	}
	g.object = new
	if new == nil {
		s.forgetGroup(key, g)
		return
	}
	easier := before == nil || before.Spec.SchedulingPolicy.Gang != nil && new.Spec.SchedulingPolicy.Gang != nil && g.least() < int(before.Spec.SchedulingPolicy.Gang.MinCount)
	s.enqueue(g, easier, podUpdate)
	s.groupCondition(g)
}

func (s *Scheduler) forgetGroup(key types.NamespacedName, g *podGroup) {
	if g.object == nil && len(g.pods) == 0 {
		delete(s.groups, key)
	}
}

// memberChanged follows the pods of groups, after podChanged has.
func (s *Scheduler) memberChanged(old, new *corev1.Pod) {
	p := new
	if p == nil {
		p = old
	}
	g, now := s.group(p), s.cfg.Now()
	to, in := s.stageOf(new)
	x := g.pods[p.UID]
	if !in {
		if x != nil {
			g.count[x.stage]--
			delete(g.pods, p.UID)
			delete(s.gated, p.UID)
			s.enqueue(g, false, "")
		}
		s.forgetGroup(types.NamespacedName{Namespace: p.Namespace, Name: groupOf(p)}, g)
		return
	}
	fresh := x == nil
	if fresh {
		x = &queued{pod: p, since: now, place: inFlight, group: g, stage: to}
		g.pods[p.UID] = x
		g.count[to]++
	}
	changed := fresh || x.stage != to
	g.count[x.stage]--
	g.count[to]++
	x.pod, x.stage = p, to
	if to == isWaiting {
		was := x.class
		x.class, x.base = s.queue.class(p)
		x.priority = corev1helpers.PodPriority(p)
		changed = changed || x.class != was
	}
	s.enqueue(g, changed, podAdd)
	s.gate(g, p.UID, x)
	if to == isWaiting && g.queued && s.queue.waits(g.entry) {
		s.condition(x) // lost to another write, perhaps
	}
}

// stageOf tells how far a pod has come; false for one that no group counts any
// more.
func (s *Scheduler) stageOf(p *corev1.Pod) (stage, bool) {
	switch {
	case p == nil, p.Status.Phase == corev1.PodSucceeded, p.Status.Phase == corev1.PodFailed:
		return 0, false
	case p.Spec.NodeName != "":
		return isPlaced, true
	case s.state.Pod(p.UID) != nil:
		return isPlaced, true
	case s.ours(p):
		return isWaiting, true
	case s.profiles[p.Spec.SchedulerName] != nil && p.DeletionTimestamp == nil:
		return isHeld, true
	}
	return 0, false
}

// enqueue has a group's entry in the queue if, and only if, it is ready. A group
// that waits is tried again if something about it has changed for the better.
func (s *Scheduler) enqueue(g *podGroup, better bool, event string) {
	if g.ready() == g.gated {
		g.gated = !g.gated
		for uid, x := range g.pods {
			s.gate(g, uid, x)
		}
	}
	if g.gated {
		s.dequeue(g)
		return
	}
	now := s.cfg.Now()
	if g.entry == nil {
		g.entry = &queued{group: g, since: now, place: inFlight, class: groupClass + string(g.object.UID)}
	}
	x := g.entry
	if x.pod == nil || g.pods[x.pod.UID] == nil || g.pods[x.pod.UID].stage != isWaiting {
		for _, m := range g.pods {
			if m.stage == isWaiting {
				x.pod = m.pod
				break
			}
		}
	}
	switch {
	case !g.queued:
		g.queued, x.priority = true, g.priority()
		s.queue.pods[g.object.UID] = x
		if at := s.queue.ready(x); x.attempts > 0 && now.Before(at) {
			s.queue.park(x, backingOff, at, event)
		} else {
			s.queue.activate(x, event)
		}
	case better:
		s.queue.wakeOne(x, now, event)
	}
}

func (s *Scheduler) dequeue(g *podGroup) {
	if g.queued {
		g.queued = false
		s.queue.unplace(g.entry)
		delete(s.queue.pods, g.entry.uid())
	}
}

// gate counts a pod that waits for others of its group among the gated.
func (s *Scheduler) gate(g *podGroup, uid types.UID, x *queued) {
	if x.stage == isWaiting && g.gated {
		s.gated[uid] = struct{}{}
	} else if x.stage != isHeld {
		delete(s.gated, uid)
	}
}

// returned takes back a pod whose binding was refused: its group is tried again
// after its back-off.
func (s *Scheduler) returned(x *queued) {
	g := x.group
	if g.pods[x.pod.UID] != x {
		return // gone meanwhile
	}
	now := s.cfg.Now()
	to, in := s.stageOf(x.pod)
	if !in {
		return
	}
	g.count[x.stage]--
	g.count[to]++
	x.stage = to
	if g.entry != nil {
		g.entry.failed, g.entry.attempts = now, max(g.entry.attempts, 1)
	}
	s.enqueue(g, false, attemptFailure)
}

// wakeGroupOf has the group of a pod tried that waited for room and may have it.
func (s *Scheduler) wakeGroupOf(p *corev1.Pod) {
	g := s.groups[types.NamespacedName{Namespace: p.Namespace, Name: groupOf(p)}]
	if g == nil || !g.queued || g.entry.place != unschedulable {
		return
	}
	if s.groupMayFit(g) != none {
		s.queue.wakeOne(g.entry, s.cfg.Now(), eventOf(plugins.PodGone))
	}
}

// groupMayFit tells whether a group that did not fit may fit after what changed.
func (s *Scheduler) groupMayFit(g *podGroup) hope {
	asked := map[string]bool{}
	fits, nominees := 0, 0
	for uid, x := range g.pods {
		if x.stage != isWaiting {
			continue
		}
		node := s.state.NominatedTo(uid)
		if node == "" && asked[x.class] {
			continue
		}
		p := s.profiles[x.pod.Spec.SchedulerName]
		if p == nil {
			return all
		}
		pl := p.kept(x)
		if pl == nil {
			return all
		}
		if node != "" {
			nominees++
			if n := s.state.Node(node); n != nil && pl.fits(n, uid) == nil {
				fits++
			}
		}
		if !asked[x.class] {
			asked[x.class] = true
			if pl.pick() != nil {
				return all
			}
		}
	}
	if nominees > 0 && fits == nominees {
		return all
	}
	return none
}

// groupCondition has what became of a group written into its status unless it is
// there. A group that was placed once stays so.
func (s *Scheduler) groupCondition(g *podGroup) {
	if g.said == nil || g.object == nil {
		return
	}
	have := meta.FindStatusCondition(g.object.Status.Conditions, g.said.Type)
	if have != nil && have.Status == metav1.ConditionTrue && g.said.Status != metav1.ConditionTrue {
		return
	}
	if have != nil && have.Status == g.said.Status && have.Reason == g.said.Reason && have.Message == g.said.Message && have.ObservedGeneration == g.object.Generation {
		return
	}
	s.writes <- []write{{group: withGroupCondition(g.object, *g.said, s.cfg.Now())}}
}

func withGroupCondition(o *schedulingv1beta1.PodGroup, c metav1.Condition, now time.Time) *schedulingv1beta1.PodGroup {
	o = o.DeepCopy()
	c.ObservedGeneration, c.LastTransitionTime = o.Generation, metav1.NewTime(now)
	meta.SetStatusCondition(&o.Status.Conditions, c)
	return o
}
