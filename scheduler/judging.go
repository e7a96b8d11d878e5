package scheduler

import (
	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

// judge works out a node's entry, its contribution to the counts being current.
func (p *plan) judge(slot int, n *state.Node) {
	e := &p.entries[slot]
	p.victims.forget(slot)
	if e.group != nil {
		for i := range p.relative {
			r := &p.relative[i]
			r.left = r.top > 0 && r.raw[slot] == r.top
		}
		p.leave(slot)
		defer p.checkTops(slot)
	}
	if n == nil {
		if e.exists {
			p.nodes--
			p.rule(e, nil, 0)
			*e = entry{}
		}
		return
	}
	if !e.exists {
		e.exists = true
		p.nodes++
		e.order = p.p.turn<<20 | uint64((slot+int(p.p.turn)*7919)%max(len(p.entries), 1))
	}
	no, rule := p.base(n)
	e.claimed = false
	if claims := n.Weighty(p.c.Priority, ""); len(claims) > 0 && no == nil {
		e.claimed = true
		for _, x := range claims {
			n.Put(x.Pod)
		}
		no, rule = p.base(n)
		for _, x := range claims {
			n.Take(x.Pod)
		}
	}
	p.rule(e, no, rule)
	if no != nil {
		return
	}
	e.score = 0
	for i := range p.absolute {
		e.score += p.absolute[i].score(n) * p.absolute[i].weight
	}
	for i := range p.relative {
		r := &p.relative[i]
		if r.raw[slot] = r.Score(p.c, n); r.raw[slot] > r.top {
			p.rescore = true
		}
	}
	e.total = p.total(slot)
	p.join(slot, n)
}

// checkTops has all nodes scored again when the best of a relative score has
// left, and is perhaps the best no longer.
func (p *plan) checkTops(slot int) {
	for i := range p.relative {
		if r := &p.relative[i]; r.left {
			r.left = false
			p.rescore = p.rescore || p.entries[slot].group == nil || r.raw[slot] < r.top
		}
	}
}

// base asks the rules that look at one node.
func (p *plan) base(n *state.Node) (*plugins.No, int) {
	for i := range p.judges {
		if no := p.judges[i].filter(n); no != nil {
			return no, p.judges[i].rule
		}
	}
	return nil, 0
}

// rule notes what rules a node out.
func (p *plan) rule(e *entry, no *plugins.No, rule int) {
	if e.no == no && e.rule == int32(rule) {
		return
	}
	if e.no != nil {
		p.ruled[e.rule]--
		for _, r := range e.no.Reasons {
			if p.counts[r]--; p.counts[r] == 0 {
				delete(p.counts, r)
			}
		}
	}
	if no != nil {
		p.ruled[rule]++
		for _, r := range no.Reasons {
			p.counts[r]++
		}
	}
	e.no, e.rule = no, int32(rule)
}

// total adds the relative scores to the absolute ones.
func (p *plan) total(slot int) int64 {
	sum := p.entries[slot].score
	for i := range p.relative {
		r := &p.relative[i]
		scaled := int64(0)
		if r.top > 0 {
			scaled = r.raw[slot] * plugins.MaxScore / r.top
		}
		if r.Reverse() {
			scaled = plugins.MaxScore - scaled
		}
		sum += scaled * r.weight
	}
	return sum
}

// settle finds the best of each relative score among the nodes that pass, and
// scores all again when one has changed.
func (p *plan) settle() {
	if !p.rescore {
		return
	}
	p.rescore = false
	for i := range p.relative {
		r := &p.relative[i]
		r.top = 0
		for slot := range p.entries {
			if p.entries[slot].group != nil {
				r.top = max(r.top, r.raw[slot])
			}
		}
	}
	for slot := range p.entries {
		if p.entries[slot].group != nil {
			p.entries[slot].total = p.total(slot)
		}
	}
	for _, g := range p.list {
		g.order(p)
	}
}
