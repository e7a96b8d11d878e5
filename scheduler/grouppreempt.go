package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

// unit is placed pods that end together: one pod, or a group whose pods stand
// and fall with one another.
type unit struct {
	pods     []*state.Pod
	group    *podGroup // nil for a pod in none
	priority int32
	started  time.Time // of the first
}

// moreImportant is upstream's order: the priority, groups before pods, the
// larger group, what started earlier.
func (u *unit) moreImportant(o *unit) int {
	grouped := func(u *unit) int {
		if u.group != nil {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(o.priority, u.priority), cmp.Compare(grouped(o), grouped(u)), cmp.Compare(len(o.pods), len(u.pods)),
		u.started.Compare(o.started), cmp.Compare(u.pods[0].UID, o.pods[0].UID),
	)
}

// groupOfPlaced is the group of a placed pod, nil without one that is there.
func (s *Scheduler) groupOfPlaced(x *state.Pod) *podGroup {
	if s.groups == nil || x.Group == (unique.Handle[string]{}) {
		return nil
	}
	g := s.groups[types.NamespacedName{Namespace: x.Namespace(), Name: x.Group.Value()}]
	if g == nil || g.object == nil {
		return nil
	}
	return g
}

// importance is the priority of a placed pod, or of its group.
func (s *Scheduler) importance(x *state.Pod) int32 {
	if g := s.groupOfPlaced(x); g != nil {
		return g.priority()
	}
	return x.Priority
}

// below are the units of less than a priority, on all nodes that exist, the most
// important first.
func (s *Scheduler) below(priority int32, now time.Time) []*unit {
	var list []*unit
	whole := map[*podGroup]*unit{}
	for _, n := range s.state.Nodes() {
		for _, x := range n.Pods {
			g := s.groupOfPlaced(x)
			u := &unit{pods: []*state.Pod{x}, group: g, priority: s.importance(x), started: x.Started(now)}
			if u.priority >= priority {
				continue
			}
			if g != nil && g.whole() {
				if have := whole[g]; have != nil {
					have.pods = append(have.pods, x)
					if u.started.Before(have.started) {
						have.started = u.started
					}
					continue
				}
				whole[g] = u
			}
			list = append(list, u)
		}
	}
	for _, u := range list {
		slices.SortFunc(u.pods, func(a, b *state.Pod) int { return cmp.Compare(a.UID, b.UID) })
	}
	slices.SortFunc(list, (*unit).moreImportant)
	return list
}

// splitUnits puts those first whose end breaks a disruption budget when all
// before them end too, and tells how many those are. Order is kept otherwise.
func (b *budgets) splitUnits(list []*unit) (sorted []*unit, first int) {
	if len(b.of) == 0 {
		return list, 0
	}
	left := map[*budget]int32{}
	var breaking, rest []*unit
	for _, u := range list {
		broken := false
		for _, x := range u.pods {
			broken = b.breaks(x, left) || broken
		}
		if broken {
			breaking = append(breaking, u)
		} else {
			rest = append(rest, u)
		}
	}
	return append(breaking, rest...), len(breaking)
}

// preemptForGroup asks less important pods to go whose end makes room for a group
// that does not fit. It returns where the group's pods wait, and what to tell.
func (s *Scheduler) preemptForGroup(p *profile, g *podGroup, list []*queued, nominated map[types.UID]string) (target map[types.UID]string, said string) {
	if never := list[0].pod.Spec.PreemptionPolicy; never != nil && *never == corev1.PreemptNever {
		return nil, "not eligible due to preemptionPolicy=Never."
	}
	if s.makingRoom(g, nominated) {
		return nominated, "ongoing preemption on nominated nodes"
	}
	s.cfg.Metrics.preempting()
	now := s.cfg.Now()
	units, _ := s.budgets.splitUnits(s.below(g.priority(), now))
	if len(units) == 0 {
		return nil, "No preemption victims found for incoming preemptor"
	}
	for _, u := range units {
		s.suspend(u)
	}
	t := s.try(p, g, list, nil)
	victims := units
	if t.why == "" {
		// Spare as many as can be, those that break budgets first.
		victims = victims[:0:0]
		for _, u := range units {
			s.resume(u)
			if !s.stands(p, t, u) {
				s.suspend(u)
				victims = append(victims, u)
			}
		}
	}
	s.undo(p, t)
	for _, u := range victims {
		s.resume(u)
	}
	if t.why != "" {
		return nil, t.why
	}
	target = map[types.UID]string{}
	for _, y := range t.tries {
		if y.node != "" {
			target[y.x.pod.UID] = y.node
		}
	}
	k := 0
	for _, u := range victims {
		k += len(u.pods)
	}
	s.cfg.Metrics.chose(k)
	s.evictUnits(p, g, victims)
	return target, fmt.Sprintf("found a placement for podgroup, preempting %d victims", k)
}

// makingRoom tells whether pods are on their way out of nodes that a group's
// pods wait for.
func (s *Scheduler) makingRoom(g *podGroup, nominated map[types.UID]string) bool {
	seen := map[string]bool{}
	for _, name := range nominated {
		if seen[name] {
			continue
		}
		seen[name] = true
		if n := s.state.Node(name); n != nil {
			for _, x := range n.Pods {
				if leaving(x) && s.importance(x) < g.priority() {
					return true
				}
			}
		}
	}
	return false
}

func (s *Scheduler) suspend(u *unit) {
	for _, x := range u.pods {
		s.state.Suspend(x.UID)
	}
}

func (s *Scheduler) resume(u *unit) {
	for _, x := range u.pods {
		s.state.Resume(x)
	}
}

// stands tells whether the pods of a trial may all be where they are, beside a
// unit that came back: one after the other, as they would be placed.
func (s *Scheduler) stands(p *profile, t *trial, u *unit) bool {
	back := map[string]bool{}
	for _, x := range u.pods {
		back[x.Node] = true
	}
	var check []*try
	everywhere := false
	for i := range t.tries {
		y := &t.tries[i]
		if y.node == "" {
			continue
		}
		pl, no := s.planFor(p, y.x)
		if no != nil {
			return false
		}
		everywhere = everywhere || len(pl.versioned) > 0 || pl.filtering()
		check = append(check, y)
	}
	if !everywhere { // only what is on its node can stand in a pod's way
		check = slices.DeleteFunc(check, func(y *try) bool { return !back[y.node] })
	}
	placed := make([]*state.Pod, len(check))
	for i, y := range check {
		placed[i] = s.state.Suspend(y.x.pod.UID)
	}
	ok := true
	for i, y := range check {
		if ok {
			pl, no := s.planFor(p, y.x)
			ok = no == nil && pl.fits(s.state.Node(y.node), y.x.pod.UID) == nil
		}
		s.state.Resume(placed[i])
	}
	return ok
}

// endOfGroup is the status of a group whose pods are told to go.
func endOfGroup(g *podGroup, why string, now time.Time) write {
	return write{group: withGroupCondition(g.object, metav1.Condition{
		Type: schedulingv1beta1.DisruptionTarget, Status: metav1.ConditionTrue, Reason: schedulingv1beta1.PodGroupReasonPreemptionByScheduler, Message: why,
	}, now)}
}

// podsOfWhole are the placed pods of a group, wherever they are.
func (s *Scheduler) podsOfWhole(g *podGroup) []*state.Pod {
	var list []*state.Pod
	for uid, x := range g.pods {
		if x.stage != isPlaced {
			continue
		}
		if p := s.state.Pod(uid); p != nil {
			list = append(list, p)
		}
	}
	return list
}

// onUnits is on for a node with pods whose groups end as a whole: sparing one is
// sparing all of its group, and so is asking it to go.
func (p *preemptor) onUnits(n *state.Node, lower []*state.Pod) (*candidate, *plugins.No) {
	p.elsewhere = true
	here := map[*unit][]*state.Pod{}
	byGroup := map[*podGroup]*unit{}
	var units []*unit
	for _, x := range lower {
		g := p.group(x)
		if g == nil || !g.whole() {
			u := &unit{pods: []*state.Pod{x}, group: g, priority: x.Priority, started: x.Started(p.now)}
			units, here[u] = append(units, u), u.pods
			continue
		}
		u := byGroup[g]
		if u == nil {
			u = &unit{pods: p.whole(g), group: g, priority: g.priority(), started: p.now}
			slices.SortFunc(u.pods, p.moreImportant)
			for _, y := range u.pods {
				if t := y.Started(p.now); t.Before(u.started) {
					u.started = t
				}
			}
			byGroup[g], units = u, append(units, u)
		}
		here[u] = append(here[u], x)
	}
	slices.SortFunc(units, (*unit).moreImportant)
	fits, add := p.what(n)
	turn := func(u *unit, sign int64) {
		for _, x := range here[u] {
			add(x, sign)
		}
	}
	for _, u := range units {
		turn(u, -1)
	}
	lack := fits()
	gone := units
	ordered, first := p.budgets.splitUnits(units)
	broken := 0
	if lack == nil {
		gone = nil
		for i, u := range ordered {
			if turn(u, 1); fits() != nil {
				turn(u, -1)
				gone = append(gone, u)
				if i < first {
					broken++
				}
			}
		}
	}
	for _, u := range gone {
		turn(u, 1)
	}
	switch {
	case lack != nil:
		return nil, lack
	case len(gone) == 0:
		return nil, notHelpful
	}
	var victims []*state.Pod
	for _, u := range gone {
		victims = append(victims, u.pods...)
	}
	slices.SortFunc(victims, p.moreImportant)
	return p.weigh(n, victims, broken), nil
}

// evictUnits tells the pods of units to go for a group: first their status, and
// that of a group which ends as a whole, says why.
func (s *Scheduler) evictUnits(p *profile, g *podGroup, units []*unit) {
	why := p.name + ": preempting to accommodate a higher priority podgroup"
	var told []write
	for _, u := range units {
		if u.group != nil && u.group.whole() {
			told = append(told, endOfGroup(u.group, why, s.cfg.Now()))
		}
		for _, x := range u.pods {
			if x.Terminating() || x.Preempted {
				continue // on its way out already
			}
			x.Preempted = true
			o := x.Object()
			told = append(told, write{
				pod: withCondition(o, corev1.PodCondition{
					Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler, Message: why,
				}, s.cfg.Now()),
				victim: &eviction{o, "podgroup", g.object.UID, "cluster", s.events[p.name]},
			})
		}
	}
	if len(told) > 0 {
		s.writes <- told
	}
}
