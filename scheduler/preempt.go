package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

// candidate is a node that has room for a pod once some others are gone.
type candidate struct {
	node    *state.Node
	victims []*state.Pod // the most important first
	// What nodes are compared by, in this order.
	breaking int       // victims whose end breaks a disruption budget
	highest  int32     // priority
	sum      int64     // of priorities, each made positive
	started  time.Time // of the victims of the highest priority, the first
}

// better is upstream's choice: fewest budgets broken, then the lowest of the
// highest priorities, the lowest sum, the fewest victims, and those that started
// last.
func (c *candidate) better(o *candidate) bool {
	return cmp.Or(
		cmp.Compare(c.breaking, o.breaking), cmp.Compare(c.highest, o.highest), cmp.Compare(c.sum, o.sum),
		cmp.Compare(len(c.victims), len(o.victims)), o.started.Compare(c.started),
	) < 0
}

// victimCache keeps by slot what was found on nodes that have not changed.
type victimCache struct {
	of      []found
	budgets uint64
}

type found struct {
	known bool
	*candidate
	no *plugins.No // why not
}

func (v *victimCache) forget(slot int) {
	if slot < len(v.of) {
		v.of[slot] = found{}
	}
}

var (
	noVictims  = plugins.RefuseFinally("No preemption victims found for incoming pod")
	notHelpful = plugins.RefuseFinally("Preemption is not helpful for scheduling")
)

// preemptor is a pod that fits nowhere and may ask others to go.
type preemptor struct {
	*plan
	pod     *corev1.Pod
	budgets *budgets
	now     time.Time
	// group returns the group of a placed pod, whole its pods; nil without groups.
	group func(*state.Pod) *podGroup
	whole func(*podGroup) []*state.Pod
	// elsewhere says that what was found on the last node depends on others.
	elsewhere bool
}

// eligible tells whether the pod may ask at all, else why not.
func (p *preemptor) eligible() (bool, string) {
	if x := p.pod.Spec.PreemptionPolicy; x != nil && *x == corev1.PreemptNever {
		return false, "not eligible due to preemptionPolicy=Never."
	}
	n := p.s.Node(p.s.NominatedTo(p.pod.UID))
	if n == nil {
		return true, ""
	}
	if no := p.verdict(n.Slot); no != nil && no.Final {
		return true, "" // it waits for a node that will not do any more
	}
	for _, x := range n.Pods {
		if x.Priority < p.c.Priority && leaving(x) {
			return false, "not eligible due to a terminating pod on the nominated node."
		}
	}
	return true, ""
}

// leaving tells whether a pod is on its way out to make room.
func leaving(x *state.Pod) bool {
	if x.Preempted {
		return true
	}
	if !x.Terminating() {
		return false
	}
	status := &x.Object().Status
	for i := range status.Conditions {
		if c := &status.Conditions[i]; c.Type == corev1.DisruptionTarget {
			return c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonPreemptionByScheduler
		}
	}
	return false
}

// choose finds the node where the least is lost by making room; nil, and by
// reason how many nodes do not help, when none does.
func (p *preemptor) choose() (*candidate, string) {
	if p.victims.budgets != p.budgets.version || len(p.versioned) > 0 || p.filtering() {
		// What was found may depend on more than the node itself.
		clear(p.victims.of)
		p.victims.budgets = p.budgets.version
	}
	for len(p.victims.of) < len(p.entries) {
		p.victims.of = append(p.victims.of, found{})
	}
	var best *candidate
	for _, n := range p.s.Nodes() {
		f := &p.victims.of[n.Slot]
		if !f.known {
			p.elsewhere = false
			c, no := p.on(n)
			*f = found{!p.elsewhere, c, no}
		}
		if f.candidate != nil && (best == nil || f.candidate.better(best)) {
			best = f.candidate
		}
	}
	if best != nil {
		return best, ""
	}
	counts := map[string]int{}
	for _, n := range p.s.Nodes() {
		for _, r := range p.victims.of[n.Slot].no.Reasons {
			counts[r]++
		}
	}
	return nil, fmt.Sprintf("0/%d nodes are available: %s.", len(p.s.Nodes()), histogram(counts))
}

// on finds the least important pods whose end makes room on a node.
func (p *preemptor) on(n *state.Node) (*candidate, *plugins.No) {
	no := p.verdict(n.Slot)
	if no == nil || no.Final {
		return nil, notHelpful
	}
	count, taken := n.Below(p.c.Priority)
	if count == 0 {
		return nil, noVictims
	}
	if p.roomOnly(n) {
		// Nothing but room is missing: a node too full of others' pods is out
		// without a look at each.
		n.Used.Add(&taken, -1)
		lack := p.trial(n)
		n.Used.Add(&taken, 1)
		if lack != nil {
			return nil, lack
		}
	}
	lower := make([]*state.Pod, 0, count)
	for _, x := range n.Pods {
		if x.Priority < p.c.Priority {
			lower = append(lower, x)
		}
	}
	if p.group != nil && slices.ContainsFunc(lower, func(x *state.Pod) bool { g := p.group(x); return g != nil && g.whole() }) {
		return p.onUnits(n, lower)
	}
	slices.SortFunc(lower, p.moreImportant)
	fits, add := p.what(n)
	for _, x := range lower {
		add(x, -1)
	}
	var victims []*state.Pod
	lack := fits()
	broken := 0
	if lack == nil {
		breaking, rest := p.budgets.split(lower)
		// Spare as many as can be, those that break budgets first.
		for i, x := range slices.Concat(breaking, rest) {
			if add(x, 1); fits() != nil {
				add(x, -1)
				victims = append(victims, x)
				if i < len(breaking) {
					broken++
				}
			}
		}
	} else {
		victims = lower
	}
	for _, x := range victims {
		add(x, 1)
	}
	if lack != nil {
		return nil, lack
	}
	if len(victims) == 0 {
		return nil, notHelpful // it fits as it is: not for pre-emption to say
	}
	slices.SortFunc(victims, p.moreImportant)
	return p.weigh(n, victims, broken), nil
}

// roomOnly tells whether resources alone decide whether the pod fits on a node
// that has none to spare.
func (p *preemptor) roomOnly(n *state.Node) bool {
	e := &p.entries[n.Slot]
	if len(p.versioned)+len(p.c.Ports) > 0 || p.filtering() || e.no == nil || p.p.rules[e.rule].Name() != "NodeResourcesFit" {
		return false
	}
	return p.judges[len(p.judges)-1].rule == int(e.rule) // else a later rule was not asked
}

// trial asks the rule of resources alone, room for nominees left alone.
func (p *preemptor) trial(n *state.Node) *plugins.No {
	fit := p.p.rules[p.entries[n.Slot].rule].(plugins.Filter)
	claims := n.Weighty(p.c.Priority, p.pod.UID)
	for _, x := range claims {
		n.Used.Add(&x.Hard, 1)
	}
	no := fit.Filter(p.c, n)
	for _, x := range claims {
		n.Used.Add(&x.Hard, -1)
	}
	return no
}

// what returns how to ask whether the pod fits, and how to take pods off the
// node and put them back for the question.
func (p *preemptor) what(n *state.Node) (fits func() *plugins.No, add func(*state.Pod, int64)) {
	if p.roomOnly(n) {
		return func() *plugins.No { return p.trial(n) }, func(x *state.Pod, sign int64) { n.Used.Add(&x.Hard, sign) }
	}
	return func() *plugins.No { return p.fits(n, p.pod.UID) }, func(x *state.Pod, sign int64) {
		if sign > 0 {
			n.Put(x)
		} else {
			n.Take(x)
		}
		p.recount(n)
	}
}

// fits asks every rule about a node as it is now, with the room of nominees
// other than self taken and without. Counts are those of the node as it is.
func (p *plan) fits(n *state.Node, self types.UID) *plugins.No {
	if claims := n.Weighty(p.c.Priority, self); len(claims) > 0 {
		for _, x := range claims {
			n.Put(x.Pod)
		}
		p.recount(n)
		no := p.ask(n)
		for _, x := range claims {
			n.Take(x.Pod)
		}
		p.recount(n)
		if no != nil {
			return no
		}
	}
	return p.ask(n)
}

func (p *plan) ask(n *state.Node) *plugins.No {
	if no, _ := p.base(n); no != nil {
		return no
	}
	return p.counted(n)
}

// moreImportant orders pods: higher priority first, then those that started
// earlier; names settle the rest, so that the choice does not depend on maps.
func (p *preemptor) moreImportant(a, b *state.Pod) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.Started(p.now).Compare(b.Started(p.now)), cmp.Compare(a.UID, b.UID))
}

func (p *preemptor) weigh(n *state.Node, victims []*state.Pod, broken int) *candidate {
	c := &candidate{node: n, victims: victims, breaking: broken, highest: victims[0].Priority, started: victims[0].Started(p.now)}
	for _, x := range victims {
		c.sum += int64(x.Priority) + 1<<31
		if x.Priority == c.highest && x.Started(p.now).Before(c.started) {
			c.started = x.Started(p.now)
		}
	}
	return c
}
