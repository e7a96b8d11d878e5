package plugins

import (
	"encoding/binary"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"sagong/scheduler/state"
)

// PodTopologySpread keeps pods spread evenly over zones, nodes, or whatever
// label names a domain.
type PodTopologySpread struct {
	// defaults hold for pods that have no constraints of their own.
	defaults []corev1.TopologySpreadConstraint
	// system says that the defaults are upstream's own, which do not demand that
	// a node has all the labels.
	system bool
	owners *Owners
}

// SystemDefaults are upstream's constraints for pods without any.
var SystemDefaults = []corev1.TopologySpreadConstraint{
	{TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 3},
	{TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 5},
}

// NewPodTopologySpread makes the rule with constraints for pods that have none;
// owners finds the selector for those.
func NewPodTopologySpread(defaults []corev1.TopologySpreadConstraint, system bool, owners *Owners) PodTopologySpread {
	if system {
		defaults = SystemDefaults
	}
	return PodTopologySpread{defaults, system, owners}
}

// Name implements Plugin.
func (PodTopologySpread) Name() string { return "PodTopologySpread" }

// Helps implements Plugin.
func (PodTopologySpread) Helps() Change { return NodeChanged | PodGone | PodPlaced | PodChanged }

var (
	noTopologyLabel = RefuseFinally("node(s) didn't match pod topology spread constraints (missing required label)")
	skewed          = Refuse("node(s) didn't match pod topology spread constraints")
)

type spreading struct {
	c          *Class
	s          *state.State
	hard, soft []*spreadConstraint
	needAll    bool // soft constraints count only nodes with all their labels
	cohorts    map[*state.Cohort][]bool
	owners     *Owners
	version    uint64
	found      bool // the owner's selector was there
}

type spreadConstraint struct {
	*tally
	selector     labels.Selector
	maxSkew      int64
	minDomains   int
	self         int64 // 1 when pods of the class match
	byAffinity   bool
	byTaints     bool
	perNode      bool // a soft constraint over host names counts each node by itself
	index        int
	mine         []int64 // by slot, of perNode: pods that match
	domainsStamp []uint32
	stamp        uint32
}

// Count implements Global.
func (f PodTopologySpread) Count(c *Class, s *state.State) Counting {
	sp := &spreading{c: c, s: s, cohorts: map[*state.Cohort][]bool{}, owners: f.owners, found: true}
	from, defaulted := c.Pod.Spec.TopologySpreadConstraints, labels.Selector(nil)
	sp.needAll = len(from) > 0 || !f.system
	if len(from) == 0 {
		if len(f.defaults) == 0 || f.owners == nil {
			return nil
		}
		sp.version = f.owners.Version()
		defaulted, sp.found = f.owners.Selector(c.Pod)
		if defaulted.Empty() {
			if sp.found {
				return awaitsOwners(f.owners, sp.version)
			}
			return sp
		}
		from = f.defaults
	}
	for i := range from {
		x := newSpreadConstraint(c.Pod, &from[i], defaulted, s)
		x.index = i
		if from[i].WhenUnsatisfiable == corev1.ScheduleAnyway {
			x.perNode = x.topo.Key == corev1.LabelHostname
			sp.soft = append(sp.soft, x)
		} else {
			sp.hard = append(sp.hard, x)
		}
	}
	return sp
}

func newSpreadConstraint(p *corev1.Pod, t *corev1.TopologySpreadConstraint, selector labels.Selector, s *state.State) *spreadConstraint {
	if selector == nil {
		var err error
		if selector, err = metav1.LabelSelectorAsSelector(t.LabelSelector); err != nil {
			selector = labels.Nothing() // refused by validation; never reached
		}
		for _, k := range t.MatchLabelKeys {
			if v, ok := p.Labels[k]; ok {
				if r, err := labels.NewRequirement(k, selection.In, []string{v}); err == nil {
					selector = selector.Add(*r)
				}
			}
		}
	}
	x := &spreadConstraint{tally: newTally(s, t.TopologyKey), selector: selector, maxSkew: int64(t.MaxSkew), minDomains: 1}
	if selector.Matches(labels.Set(p.Labels)) {
		x.self = 1
	}
	if t.MinDomains != nil {
		x.minDomains = int(*t.MinDomains)
	}
	x.byAffinity = t.NodeAffinityPolicy == nil || *t.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor
	x.byTaints = t.NodeTaintsPolicy != nil && *t.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor
	return x
}

// Recount implements Counting.
func (sp *spreading) Recount(slot int, n *state.Node) {
	hard, soft := n != nil && hasAll(sp.hard, slot), n != nil && (!sp.needAll || hasAll(sp.soft, slot))
	affine, bearable := false, false
	if hard || soft {
		ok, err := sp.c.required.Match(n.Object)
		affine = ok && err == nil
		bearable = (TaintToleration{}).Filter(sp.c, n) == nil
	}
	for _, x := range sp.hard {
		x.recount(sp, slot, n, hard && x.includes(affine, bearable))
	}
	for _, x := range sp.soft {
		if x.perNode {
			for len(x.mine) <= slot {
				x.mine = append(x.mine, 0)
			}
			x.mine[slot] = 0
			if n != nil {
				x.mine[slot] = x.count(sp, n)
			}
			continue
		}
		x.recount(sp, slot, n, soft && x.includes(affine, bearable))
	}
}

func hasAll(constraints []*spreadConstraint, slot int) bool {
	for _, x := range constraints {
		if x.topo.Of(slot) < 0 {
			return false
		}
	}
	return true
}

func (x *spreadConstraint) includes(affine, bearable bool) bool {
	return (affine || !x.byAffinity) && (bearable || !x.byTaints)
}

func (x *spreadConstraint) recount(sp *spreading, slot int, n *state.Node, counts bool) {
	var k int64
	if counts {
		k = x.count(sp, n)
	}
	x.set(slot, counts, k)
}

// count is how many pods of the node match: those of the namespace that are not
// on their way out.
func (x *spreadConstraint) count(sp *spreading, n *state.Node) int64 {
	var k int64
	for _, share := range n.Cohorts {
		if share.Terminating || share.Namespace != sp.c.Pod.Namespace {
			continue
		}
		if sp.matches(share.Cohort)[x.index] {
			k += int64(share.Pods)
		}
	}
	return k
}

// matches tells by constraint whether a cohort's pods match.
func (sp *spreading) matches(c *state.Cohort) []bool {
	m, ok := sp.cohorts[c]
	if !ok {
		m = make([]bool, len(sp.hard)+len(sp.soft))
		for _, list := range [][]*spreadConstraint{sp.hard, sp.soft} {
			for _, x := range list {
				// A selector of everything counts nothing, as upstream has it.
				m[x.index] = !x.selector.Empty() && x.selector.Matches(labels.Set(c.Labels))
			}
		}
		if len(sp.cohorts) > 4096 {
			clear(sp.cohorts) // most are gone by now
		}
		sp.cohorts[c] = m
	}
	return m
}

// Sign implements Counting.
func (sp *spreading) Sign(b []byte, n *state.Node) []byte {
	for _, x := range sp.hard {
		b = x.sign(b, n.Slot)
	}
	for _, x := range sp.soft {
		if x.perNode {
			b = append(b, bit(x.topo.Of(n.Slot) >= 0))
			b = binary.AppendVarint(b, x.mine[n.Slot])
		} else {
			b = x.sign(b, n.Slot)
		}
	}
	return b
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// Filters implements Counting.
func (sp *spreading) Filters() bool { return len(sp.hard) > 0 }

// Filter implements Counting: a domain may have maxSkew more matching pods than
// the least of all.
func (sp *spreading) Filter(n *state.Node) *No {
	for _, x := range sp.hard {
		count, ok := x.of(n.Slot)
		if !ok {
			return noTopologyLabel
		}
		least := int64(0)
		if x.domains >= x.minDomains {
			least = x.least()
		}
		if count+x.self-least > x.maxSkew {
			return skewed
		}
	}
	return nil
}

// Same implements Counting.
func (sp *spreading) Same(o Counting) bool {
	x, ok := o.(*spreading)
	return ok && sp.found && x.found && sp.version == x.version && sp.c.Pod.Namespace == x.c.Pod.Namespace &&
		slices.EqualFunc(sp.hard, x.hard, sameConstraint) && slices.EqualFunc(sp.soft, x.soft, sameConstraint)
}

// sameConstraint compares what labels decide; the rest is equal between classes
// that are compared.
func sameConstraint(a, b *spreadConstraint) bool {
	return a.topo == b.topo && a.maxSkew == b.maxSkew && a.self == b.self && a.selector.String() == b.selector.String()
}

// Stale implements Counting.
func (sp *spreading) Stale() bool {
	if sp.owners != nil && len(sp.c.Pod.Spec.TopologySpreadConstraints) == 0 && (!sp.found || sp.owners.Version() != sp.version) {
		return true
	}
	for _, x := range sp.hard {
		if x.stale() {
			return true
		}
	}
	for _, x := range sp.soft {
		if !x.perNode && x.stale() {
			return true
		}
	}
	return false
}
