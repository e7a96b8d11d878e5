package plugins

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"sagong/scheduler/state"
)

// PodTopologySpread keeps pods spread evenly over zones, nodes, or whatever
// label names a domain.
type PodTopologySpread struct{}

// Name implements Plugin.
func (PodTopologySpread) Name() string { return "PodTopologySpread" }

// Helps implements Plugin.
func (PodTopologySpread) Helps() Change { return NodeChanged | PodGone | PodPlaced | PodChanged }

type spreading struct {
	c           *Class
	constraints []spreadConstraint
}

type spreadConstraint struct {
	key        string
	maxSkew    int32
	minDomains int32
	hard       bool
	selfMatch  bool
	nodes      func(*state.Node) bool // nodes whose domains count
	domains    map[string]int32       // matching pods a domain
}

// Begin implements Global.
func (PodTopologySpread) Begin(c *Class, s *state.State) Counting {
	p := c.Pod
	if len(p.Spec.TopologySpreadConstraints) == 0 {
		return nil
	}
	sp := &spreading{c: c}
	for i := range p.Spec.TopologySpreadConstraints {
		t := &p.Spec.TopologySpreadConstraints[i]
		selector, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
		if err != nil {
			selector = labels.Nothing() // refused by validation; never reached
		}
		for _, k := range t.MatchLabelKeys {
			if v, ok := p.Labels[k]; ok {
				if r, err := labels.NewRequirement(k, selection.In, []string{v}); err == nil {
					selector = selector.Add(*r)
				}
			}
		}
		x := spreadConstraint{
			key: t.TopologyKey, maxSkew: t.MaxSkew, minDomains: 1, hard: t.WhenUnsatisfiable != corev1.ScheduleAnyway,
			selfMatch: selector.Matches(labels.Set(p.Labels)), domains: map[string]int32{},
		}
		if t.MinDomains != nil {
			x.minDomains = *t.MinDomains
		}
		honourAffinity := t.NodeAffinityPolicy == nil || *t.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor
		honourTaints := t.NodeTaintsPolicy != nil && *t.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor
		x.nodes = func(n *state.Node) bool {
			if _, ok := n.Object.Labels[x.key]; !ok {
				return false
			}
			if honourAffinity && (NodeAffinity{}).Filter(c, n) != nil {
				return false
			}
			return !honourTaints || (TaintToleration{}).Filter(c, n) == nil
		}
		for _, n := range s.Nodes() {
			if !x.nodes(n) {
				continue
			}
			domain := n.Object.Labels[x.key]
			count := x.domains[domain]
			for _, q := range n.Pods {
				if q.Object.Namespace == p.Namespace && q.Object.DeletionTimestamp == nil && selector.Matches(labels.Set(q.Object.Labels)) {
					count++
				}
			}
			x.domains[domain] = count
		}
		sp.constraints = append(sp.constraints, x)
	}
	return sp
}

func (x *spreadConstraint) least() int32 {
	if int32(len(x.domains)) < x.minDomains {
		return 0
	}
	first, low := true, int32(0)
	for _, n := range x.domains {
		if first || n < low {
			first, low = false, n
		}
	}
	return low
}

// Filter implements Counting.
func (s *spreading) Filter(n *state.Node) *No {
	for i := range s.constraints {
		x := &s.constraints[i]
		if !x.hard {
			continue
		}
		domain, ok := n.Object.Labels[x.key]
		if !ok {
			return RefuseFinally("node(s) didn't match pod topology spread constraints (missing required label)")
		}
		self := int32(0)
		if x.selfMatch {
			self = 1
		}
		if x.domains[domain]+self-x.least() > x.maxSkew {
			return Refuse("node(s) didn't match pod topology spread constraints")
		}
	}
	return nil
}

// Score implements Counting: fewer matching pods in the node's domains is better.
func (s *spreading) Score(n *state.Node) int64 {
	var sum int64
	for i := range s.constraints {
		if x := &s.constraints[i]; !x.hard {
			sum -= int64(x.domains[n.Object.Labels[x.key]])
		}
	}
	return sum
}

// Weight implements Counting.
func (s *spreading) Weight() int64 { return 2 }

// Placed implements Counting.
func (s *spreading) Placed(n *state.Node) {
	for i := range s.constraints {
		if x := &s.constraints[i]; x.selfMatch && x.nodes(n) {
			x.domains[n.Object.Labels[x.key]]++
		}
	}
}
