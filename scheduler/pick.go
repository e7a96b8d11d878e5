package scheduler

import (
	"fmt"
	"slices"
	"strings"

	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

// picking is room that pick uses again and again.
type picking struct {
	open   []*group
	groups []plugins.Group
	sums   []int64
	scores []int64
}

// pick chooses the node for the next pod of the class, nil when none will do.
// The plan must be current.
func (p *plan) pick() *state.Node {
	var aside []int32
	best := p.best()
	for best != nil && p.entries[best.Slot].claimed && p.refusedBesideNominees(best) != nil {
		// Rare: with the nominees on it a rule that counts is broken.
		aside = append(aside, int32(best.Slot))
		p.leave(best.Slot)
		best = p.best()
	}
	for _, slot := range aside {
		p.join(int(slot), p.s.At(int(slot)))
	}
	if best != nil {
		p.p.turn++
		p.entries[best.Slot].order = p.p.turn << 20
	}
	return best
}

// best is the best node of all that every rule lets pass.
func (p *plan) best() *state.Node {
	k := &p.picking
	k.open, k.groups = k.open[:0], k.groups[:0]
	for _, g := range p.list {
		n := p.s.At(int(g.slots[0]))
		if p.counted(n) == nil {
			k.open = append(k.open, g)
			k.groups = append(k.groups, plugins.Group{Node: n, Nodes: len(g.slots)})
		}
	}
	if len(k.open) == 0 {
		return nil
	}
	if len(k.open) == 1 {
		return k.groups[0].Node
	}
	k.sums = append(k.sums[:0], make([]int64, len(k.open))...)
	k.scores = append(k.scores[:0], make([]int64, len(k.open))...)
	for i := range p.counting {
		if c := &p.counting[i]; c.weight > 0 && c.Scores(k.groups, k.scores) {
			for j := range k.sums {
				k.sums[j] += c.weight * k.scores[j]
			}
		}
	}
	at := 0
	for i := 1; i < len(k.open); i++ {
		a, b := &p.entries[k.open[i].slots[0]], &p.entries[k.open[at].slots[0]]
		if x, y := a.total+k.sums[i], b.total+k.sums[at]; x > y || x == y && a.order < b.order {
			at = i
		}
	}
	return k.groups[at].Node
}

// counted asks the rules that count about a node.
func (p *plan) counted(n *state.Node) *plugins.No {
	no, _ := p.countedBy(n)
	return no
}

func (p *plan) countedBy(n *state.Node) (*plugins.No, int) {
	for i := range p.counting {
		if c := &p.counting[i]; c.filters {
			if no := c.Filter(n); no != nil {
				return no, c.rule
			}
		}
	}
	return nil, 0
}

// refusedBesideNominees asks the rules that count what they would say were the
// node's nominees on it.
func (p *plan) refusedBesideNominees(n *state.Node) *plugins.No {
	if len(p.counting) == 0 {
		return nil
	}
	claims := n.Weighty(p.c.Priority, "")
	for _, x := range claims {
		n.Put(x.Pod)
	}
	p.recount(n)
	no := p.counted(n)
	for _, x := range claims {
		n.Take(x.Pod)
	}
	p.recount(n)
	return no
}

func (p *plan) recount(n *state.Node) {
	for i := range p.counting {
		p.counting[i].Recount(n.Slot, n)
	}
}

// verdict is why a node will not do, nil when it will.
func (p *plan) verdict(slot int) *plugins.No {
	e := &p.entries[slot]
	if e.no != nil || e.group == nil {
		return e.no
	}
	n := p.s.At(slot)
	if no := p.counted(n); no != nil {
		return no
	}
	if e.claimed {
		return p.refusedBesideNominees(n)
	}
	return nil
}

// unfit says why a class fits on no node.
type unfit struct {
	nodes int
	// pre is the reason of a rule that looked at no node.
	pre   string
	final bool
	// counts is by reason the nodes it rules out.
	counts map[string]int
	// post is what pre-emption had to say.
	post string
	// helps are the changes after which trying again makes sense.
	helps plugins.Change
}

// why sums up a plan whose pick found nothing.
func (p *plan) why() *unfit {
	u := &unfit{nodes: len(p.s.Nodes()), counts: make(map[string]int, len(p.counts)+2)}
	if k := u.nodes - p.nodes; k > 0 {
		u.counts[outside] = k
		u.helps = plugins.NodeChanged
	}
	for reason, k := range p.counts {
		u.counts[reason] = k
	}
	for i, k := range p.ruled {
		if k > 0 {
			u.helps |= p.p.rules[i].Helps()
		}
	}
	for _, g := range p.list {
		no, rule := p.countedBy(p.s.At(int(g.slots[0])))
		if no != nil {
			u.helps |= p.p.rules[rule].Helps()
			for _, r := range no.Reasons {
				u.counts[r] += len(g.slots)
			}
			continue
		}
		for _, slot := range g.slots {
			if no := p.verdict(int(slot)); no != nil {
				u.helps |= plugins.PodGone | plugins.NodeChanged | plugins.PodPlaced
				for _, r := range no.Reasons {
					u.counts[r]++
				}
			}
		}
	}
	return u
}

// message words the counts as upstream does: "0/3 nodes are available: 1 node(s)
// were unschedulable, 2 Insufficient cpu."
func (u *unfit) message() string {
	if u.nodes == 0 {
		return "no nodes available to schedule pods"
	}
	m := fmt.Sprintf("0/%d nodes are available:", u.nodes)
	if u.pre != "" {
		m += " " + u.pre + "."
	} else {
		m += " " + histogram(u.counts) + "."
	}
	if u.post != "" {
		m += " " + u.post
	}
	return m
}

func histogram(counts map[string]int) string {
	parts := make([]string, 0, len(counts))
	for reason, k := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", k, reason))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
