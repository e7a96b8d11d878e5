package scheduler

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

// placeBatch places the pods that are next; false when none wait.
func (s *Scheduler) placeBatch(ctx context.Context) bool {
	batch := s.queue.next(batchSize)
	if len(batch) == 0 {
		return false
	}
	if batch[0].group != nil {
		s.placeGroup(ctx, batch[0])
		return true
	}
	began := s.cfg.Now()
	for _, x := range batch {
		x.began = began
	}
	p := s.profiles[batch[0].pod.Spec.SchedulerName]
	pl, no := s.planFor(p, batch[0])
	var bound []write
	i := 0
	picking := s.cfg.Now()
	for ; i < len(batch) && no == nil; i++ {
		x := batch[i]
		var at *state.Node
		at, pl, no = s.find(p, pl, x)
		if no == nil && at == nil {
			no = pl.why()
			break
		}
		if no != nil {
			break
		}
		if w, refused := s.assume(ctx, p, pl, x, at); refused != nil {
			s.park(p, x, refused, nil)
		} else if w != nil {
			bound = append(bound, *w)
		}
	}
	if pl != nil || no == nil {
		s.cfg.Metrics.point(pointScore, p.name, no == nil, s.cfg.Now().Sub(picking))
	}
	s.cfg.Metrics.decided(s.cfg.Now().Sub(began))
	if len(bound) > 0 {
		s.writes <- bound
	}
	if no == nil {
		// There may be room for more than were woken.
		s.queue.wakeClass(batch[0].class, batchSize, s.cfg.Now(), eventOf(plugins.PodPlaced))
		return true
	}
	for ; i < len(batch); i++ {
		s.park(p, batch[i], no, pl)
	}
	return true
}

// planFor returns the current plan of a pod's class, or why it fits nowhere.
func (s *Scheduler) planFor(p *profile, x *queued) (*plan, *unfit) {
	if pl := p.kept(x); pl != nil {
		return pl, nil
	}
	if len(s.state.Nodes()) == 0 {
		return nil, &unfit{helps: plugins.NodeChanged}
	}
	c, err := plugins.NewClass(x.pod)
	if err != nil {
		return nil, &unfit{pre: fmt.Sprintf("cannot read the pod's affinity: %v", err), final: true, nodes: len(s.state.Nodes()), helps: plugins.PodChanged}
	}
	began := s.cfg.Now()
	pl, no := p.begin(c, s.state)
	ready := s.cfg.Now()
	s.cfg.Metrics.point(pointPreFilter, p.name, no == nil, ready.Sub(began))
	if no != nil {
		return nil, no
	}
	pl.fill()
	s.cfg.Metrics.point(pointFilter, p.name, pl.nodes > 0, s.cfg.Now().Sub(ready))
	if pl.only == nil {
		p.plans.put(x.class, x.base, pl)
	}
	return pl, nil
}

// kept returns the current plan of a pod's class if there is one, or that of
// another class which does as well.
func (p *profile) kept(x *queued) *plan {
	if pl := p.plans.get(x.class); pl != nil {
		if pl.refresh() {
			p.plans.touch(x.class)
			return pl
		}
		p.plans.drop(x.class)
	}
	like := p.plans.bases[x.class[:x.base]]
	pl := p.plans.get(like)
	if pl == nil || like == x.class || !pl.refresh() {
		return nil
	}
	c, err := plugins.NewClass(x.pod)
	if err != nil || !pl.serves(c) {
		return nil
	}
	p.plans.touch(like)
	return pl
}

// find chooses a node for a pod, its nominated one if that will do; nil when
// none does. The plan it returns is current.
func (s *Scheduler) find(p *profile, pl *plan, x *queued) (*state.Node, *plan, *unfit) {
	if !pl.refresh() {
		var no *unfit
		if pl, no = s.planFor(p, x); no != nil {
			return nil, nil, no
		}
	}
	if n := s.state.Node(s.state.NominatedTo(x.pod.UID)); n != nil && !pl.confined(n) && pl.fits(n, x.pod.UID) == nil {
		return n, pl, nil
	}
	return pl.pick(), pl, nil
}

// assume counts a pod where it was placed and returns the binding to write; nil
// when rules have work to do before that.
func (s *Scheduler) assume(ctx context.Context, p *profile, pl *plan, x *queued, n *state.Node) (*write, *unfit) {
	if no := s.reserve(p, pl, x, n); no != nil {
		return nil, no
	}
	return s.binding(ctx, p, x, n.Name), nil
}

// reserve counts a pod where it was placed.
func (s *Scheduler) reserve(p *profile, pl *plan, x *queued, n *state.Node) *unfit {
	for i, r := range p.rules {
		reserver, ok := r.(plugins.Reserver)
		if !ok {
			continue
		}
		if no := reserver.Reserve(pl.c, x.pod, n); no != nil {
			for _, done := range p.rules[:i+1] {
				if u, ok := done.(plugins.Reserver); ok {
					u.Unreserve(x.pod, n.Name)
				}
			}
			return &unfit{pre: fmt.Sprint(no.Reasons[0]), final: true, helps: r.Helps(), nodes: len(s.state.Nodes())}
		}
	}
	s.state.Denominate(x.pod.UID)
	s.state.PlaceLike(x.pod, n.Name, true, pl.c.Demand)
	return nil
}

// binding returns the binding of a pod that was counted on its node, nil when
// rules have work to do before that.
func (s *Scheduler) binding(ctx context.Context, p *profile, x *queued, node string) *write {
	s.changes |= plugins.PodPlaced
	w := write{x: x, pod: x.pod, node: node, profile: p, since: x.since, began: x.began, attempts: x.attempts}
	var before []plugins.PreBinder
	for _, r := range p.rules {
		if b, ok := r.(plugins.PreBinder); ok && b.Binds(x.pod, node) {
			before = append(before, b)
		}
	}
	if len(before) == 0 {
		return &w
	}
	w.prepared = true
	if x.pod.Status.NominatedNodeName != node {
		// Who makes room or nodes for pods learns where this one will be.
		x.expected = node
		p := x.pod.DeepCopy()
		p.Status.NominatedNodeName = node
		s.writes <- []write{{pod: p}}
	}
	s.prepare(ctx, w, before)
	return nil
}

// mayFit tells whether a class that fitted nowhere may fit after what changed.
// Asking its plan costs what changed and saves trying in vain. A node that
// changed may also have become one where others can be asked to go.
func (s *Scheduler) mayFit(x *queued, c plugins.Change) hope {
	if c&^(plugins.PodGone|plugins.PodPlaced) != 0 {
		return all
	}
	if x.group != nil {
		return s.groupMayFit(x.group)
	}
	switch pl := s.profiles[x.pod.Spec.SchedulerName].kept(x); {
	case pl == nil:
		return all
	case pl.pick() != nil:
		return some
	}
	return none
}

// wakeNominees wakes the pods that waited for room on a node and may have it.
func (s *Scheduler) wakeNominees(node string) {
	n := s.state.Node(node)
	if n == nil {
		return
	}
	for _, nominee := range n.Nominated {
		x := s.queue.pods[nominee.UID]
		if x == nil && s.groups != nil {
			s.wakeGroupOf(nominee.Object())
			continue
		}
		if x == nil || x.place != unschedulable {
			continue
		}
		pl := s.profiles[x.pod.Spec.SchedulerName].kept(x)
		if pl == nil || pl.fits(n, x.pod.UID) == nil {
			s.queue.wakeOne(x, s.cfg.Now(), eventOf(plugins.PodGone))
		}
	}
}

// park sets a pod aside, having asked others to make room for it if it may, and
// tells its owner why.
func (s *Scheduler) park(p *profile, x *queued, why *unfit, pl *plan) {
	u := *why
	denominate := !p.preempts || u.nodes == 0
	var said []string
	for _, r := range p.rules {
		if b, ok := r.(plugins.Unblocker); ok && u.pre == "" && u.nodes > 0 {
			if text := b.Unblock(x.pod); text != "" {
				said = append(said, text)
			}
		}
	}
	if p.preempts && u.nodes > 0 {
		var text string
		if text, denominate = s.preempt(p, x, pl, why); text != "" {
			said = append(said, text)
		}
	}
	u.post = strings.Join(said, ", ")
	now := s.cfg.Now()
	s.cfg.Metrics.attempt(p.name, "unschedulable", now.Sub(x.began))
	s.queue.fail(x, u.helps|plugins.PodChanged, now)
	x.said, x.erred = u.message(), false
	s.events[p.name].Eventf(x.pod, corev1.EventTypeWarning, "FailedScheduling", "%s", x.said)
	if denominate && s.state.NominatedTo(x.pod.UID) != "" {
		s.state.Denominate(x.pod.UID)
		s.changes |= plugins.PodGone // its room is anybody's
	}
	s.condition(x)
}

// preempt asks the least important pods to go whose end makes room for one that
// fits nowhere. It returns what to tell when there are none, and whether the
// pod's nomination has come to nothing.
func (s *Scheduler) preempt(p *profile, x *queued, pl *plan, why *unfit) (message string, denominate bool) {
	const asked = "preemption: "
	if never := x.pod.Spec.PreemptionPolicy; never != nil && *never == corev1.PreemptNever {
		return asked + "not eligible due to preemptionPolicy=Never.", false
	}
	if pl == nil || why.pre != "" {
		return fmt.Sprintf("%s0/%d nodes are available: %s.", asked, why.nodes, histogram(map[string]int{notHelpful.Reasons[0]: why.nodes})), true
	}
	s.cfg.Metrics.preempting()
	if !pl.refresh() {
		var no *unfit
		if pl, no = s.planFor(p, x); no != nil {
			return "", false // a rule has changed its mind meanwhile, which wakes the pod
		}
	}
	began, found := s.cfg.Now(), false
	defer func() { s.cfg.Metrics.point(pointPostFilter, p.name, found, s.cfg.Now().Sub(began)) }()
	a := &preemptor{plan: pl, pod: x.pod, budgets: &s.budgets, now: s.cfg.Now()}
	if s.groups != nil {
		a.group, a.whole = s.groupOfPlaced, s.podsOfWhole
	}
	if ok, not := a.eligible(); !ok {
		return asked + not, false
	}
	best, none := a.choose()
	if best == nil {
		return asked + none, true
	}
	found = true
	s.cfg.Metrics.chose(len(best.victims))
	s.evict(p, x, best)
	return "", false
}
