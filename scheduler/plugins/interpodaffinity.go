package plugins

import (
	"math"

	corev1 "k8s.io/api/core/v1"

	"sagong/scheduler/state"
)

// InterPodAffinity puts pods near to, or away from, pods with certain labels.
type InterPodAffinity struct {
	namespaces Namespaces
	version    func() uint64 // changes with the labels of namespaces
	hardWeight int64         // of the required affinity of pods that are placed
	ignoreSoft bool          // pods without preferences are not scored at all
}

// NewInterPodAffinity makes the rule. version changes when what namespaces
// returns may have.
func NewInterPodAffinity(namespaces Namespaces, version func() uint64, hardWeight int32, ignorePreferred bool) InterPodAffinity {
	return InterPodAffinity{namespaces, version, int64(hardWeight), ignorePreferred}
}

// Name implements Plugin.
func (InterPodAffinity) Name() string { return "InterPodAffinity" }

// Helps implements Plugin.
func (InterPodAffinity) Helps() Change {
	return NodeChanged | PodGone | PodPlaced | PodChanged | NamespaceChanged
}

var (
	notNear    = RefuseFinally("node(s) didn't match pod affinity rules")
	notAway    = Refuse("node(s) didn't match pod anti-affinity rules")
	notWelcome = Refuse("node(s) didn't satisfy existing pods anti-affinity rules")
)

// affinityCounting counts for one class. Terms over the same label share a
// tally where their sums mean the same.
type affinityCounting struct {
	f        InterPodAffinity
	c        *Class
	s        *state.State
	required []term
	anti     []term
	soft     []weighted
	near     []*tally // by required term: placed pods that match all of them
	away     []*tally // by anti term: placed pods that match
	selfNear bool     // pods of the class match all their own required terms

	// hostile counts placed pods whose own anti-affinity means the class, liking
	// sums the weights of preferences in both directions; by label of nodes.
	hostile, liking tallies

	cohorts map[*state.Cohort]*relation
	mark    state.AffineMark
	version uint64
	stale   bool
	sums    []int64
}

type weighted struct {
	term
	weight int64
}

type tallies struct {
	keys []string
	of   []*tally
}

func (t *tallies) index(s *state.State, key string) (i int, fresh bool) {
	for i, k := range t.keys {
		if k == key {
			return i, false
		}
	}
	t.keys, t.of = append(t.keys, key), append(t.of, newTally(s, key))
	return len(t.keys) - 1, true
}

// Count implements Global.
func (f InterPodAffinity) Count(c *Class, s *state.State) Counting {
	a := &affinityCounting{f: f, c: c, s: s, cohorts: map[*state.Cohort]*relation{}}
	if f.version != nil {
		a.version = f.version()
	}
	p := c.Pod
	if aff := p.Spec.Affinity; aff != nil {
		if aff.PodAffinity != nil {
			a.required = f.namespaces.readAll(p.Namespace, p.Labels, aff.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
			a.prefer(aff.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution, 1)
		}
		if aff.PodAntiAffinity != nil {
			a.anti = f.namespaces.readAll(p.Namespace, p.Labels, aff.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
			a.prefer(aff.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution, -1)
		}
	}
	a.selfNear = true
	for i := range a.required {
		a.near = append(a.near, newTally(s, a.required[i].key))
		a.selfNear = a.selfNear && a.required[i].matches(p.Namespace, p.Labels)
	}
	for i := range a.anti {
		a.away = append(a.away, newTally(s, a.anti[i].key))
	}
	for i := range a.soft {
		a.liking.index(s, a.soft[i].key)
	}
	var affine []*state.Cohort
	affine, a.mark = s.Affine(state.AffineMark{})
	for _, x := range affine {
		a.relate(x)
	}
	a.stale = false
	return a
}

func (a *affinityCounting) prefer(in []corev1.WeightedPodAffinityTerm, sign int64) {
	for i := range in {
		a.soft = append(a.soft, weighted{a.f.namespaces.read(a.c.Pod.Namespace, a.c.Pod.Labels, &in[i].PodAffinityTerm), sign * int64(in[i].Weight)})
	}
}

// idle tells whether there is nothing to count, as yet.
func (a *affinityCounting) idle() bool {
	return len(a.required)+len(a.anti)+len(a.soft)+len(a.hostile.keys)+len(a.liking.keys) == 0
}

// Recount implements Counting.
func (a *affinityCounting) Recount(slot int, n *state.Node) {
	if a.idle() {
		return
	}
	var near int64
	k := len(a.away) + len(a.hostile.of)
	if k += len(a.liking.of); cap(a.sums) < k {
		a.sums = make([]int64, k)
	}
	sums := a.sums[:k]
	clear(sums)
	away, hostile, likes := sums[:len(a.away)], sums[len(a.away):len(a.away)+len(a.hostile.of)], sums[len(a.away)+len(a.hostile.of):]
	if n != nil {
		for _, share := range n.Cohorts {
			r, pods := a.relate(share.Cohort), int64(share.Pods)
			if a.stale {
				return
			}
			if r.near {
				near += pods
			}
			for i, yes := range r.away {
				if yes {
					away[i] += pods
				}
			}
			for _, k := range r.hostile {
				hostile[k] += pods
			}
			for _, l := range r.liking {
				likes[l.tally] += l.weight * pods
			}
		}
	}
	for _, t := range a.near {
		t.set(slot, n != nil, near)
	}
	for i, t := range a.away {
		t.set(slot, n != nil, away[i])
	}
	for i, t := range a.hostile.of {
		t.set(slot, n != nil, hostile[i])
	}
	for i, t := range a.liking.of {
		t.set(slot, n != nil, likes[i])
	}
}

// Sign implements Counting.
func (a *affinityCounting) Sign(b []byte, n *state.Node) []byte {
	for _, list := range [][]*tally{a.near, a.away, a.hostile.of, a.liking.of} {
		for _, t := range list {
			b = t.sign(b, n.Slot)
		}
	}
	return b
}

// Filters implements Counting.
func (a *affinityCounting) Filters() bool { return len(a.near)+len(a.away)+len(a.hostile.of) > 0 }

// Filter implements Counting.
func (a *affinityCounting) Filter(n *state.Node) *No {
	if len(a.near) > 0 && !a.beside(n) {
		return notNear
	}
	for _, t := range a.away {
		if k, _ := t.of(n.Slot); k > 0 {
			return notAway
		}
	}
	for _, t := range a.hostile.of {
		if k, _ := t.of(n.Slot); k > 0 {
			return notWelcome
		}
	}
	return nil
}

// beside holds when every required term has a match in the node's domain, or
// when no pod anywhere matches and the class matches its own terms: the first of
// a group that wants to be together.
func (a *affinityCounting) beside(n *state.Node) bool {
	all, any := true, false
	for _, t := range a.near {
		k, ok := t.of(n.Slot)
		if !ok {
			return false
		}
		all = all && k > 0
		any = any || t.total > 0
	}
	return all || !any && a.selfNear
}

// Scores implements Counting.
func (a *affinityCounting) Scores(groups []Group, scores []int64) bool {
	if len(a.liking.of) == 0 {
		return false
	}
	low, high := int64(math.MaxInt64), int64(math.MinInt64)
	for i, g := range groups {
		scores[i] = 0
		for _, t := range a.liking.of {
			k, _ := t.of(g.Node.Slot)
			scores[i] += k
		}
		low, high = min(low, scores[i]), max(high, scores[i])
	}
	for i := range groups {
		if high > low {
			scores[i] = int64(MaxScore * (float64(scores[i]-low) / float64(high-low)))
		} else {
			scores[i] = 0
		}
	}
	return true
}

// Same implements Counting: nothing concerns either class.
func (a *affinityCounting) Same(o Counting) bool {
	x, ok := o.(*affinityCounting)
	return ok && a.idle() && x.idle()
}

// Stale implements Counting: cohorts have come that mean something to the class
// by a label that was not counted over, or the labels of namespaces changed.
func (a *affinityCounting) Stale() bool {
	if a.f.version != nil && a.f.version() != a.version {
		return true
	}
	was := a.idle()
	fresh, mark := a.s.Affine(a.mark)
	a.mark = mark
	for _, x := range fresh {
		a.relate(x)
	}
	if a.stale || was != a.idle() {
		return true
	}
	for _, list := range [][]*tally{a.near, a.away, a.hostile.of, a.liking.of} {
		for _, t := range list {
			if t.stale() {
				return true
			}
		}
	}
	return false
}
