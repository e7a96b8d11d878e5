package scheduler

import "sagong/scheduler/state"

// group is the nodes that pass every rule which looks at one node, and which
// the counting rules cannot tell apart; a heap, the best on top.
type group struct {
	slots []int32
	at    int // place in the plan's list
	sign  string
}

// join puts a node into the group of its signature.
func (p *plan) join(slot int, n *state.Node) {
	p.scratch = p.scratch[:0]
	for i := range p.counting {
		p.scratch = p.counting[i].Sign(p.scratch, n)
	}
	g := p.groups[string(p.scratch)]
	if g == nil {
		g = &group{at: len(p.list), sign: string(p.scratch)}
		p.groups[g.sign] = g
		p.list = append(p.list, g)
	}
	e := &p.entries[slot]
	e.group, e.at = g, int32(len(g.slots))
	g.slots = append(g.slots, int32(slot))
	g.up(p, int(e.at))
}

// leave takes a node out of its group.
func (p *plan) leave(slot int) {
	e := &p.entries[slot]
	g, at := e.group, int(e.at)
	last := len(g.slots) - 1
	g.swap(p, at, last)
	g.slots = g.slots[:last]
	e.group = nil
	if at < last {
		g.up(p, at)
		g.down(p, at)
	}
	if last == 0 {
		end := len(p.list) - 1
		p.list[g.at] = p.list[end]
		p.list[g.at].at = g.at
		p.list[end] = nil
		p.list = p.list[:end]
		delete(p.groups, g.sign)
	}
}

// before tells which of two nodes is better; among equals the one used longest
// ago.
func (p *plan) before(a, b int32) bool {
	x, y := &p.entries[a], &p.entries[b]
	if x.total != y.total {
		return x.total > y.total
	}
	return x.order < y.order
}

func (g *group) swap(p *plan, i, j int) {
	g.slots[i], g.slots[j] = g.slots[j], g.slots[i]
	p.entries[g.slots[i]].at, p.entries[g.slots[j]].at = int32(i), int32(j)
}

func (g *group) up(p *plan, i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !p.before(g.slots[i], g.slots[parent]) {
			return
		}
		g.swap(p, i, parent)
		i = parent
	}
}

func (g *group) down(p *plan, i int) {
	for {
		best := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(g.slots); child++ {
			if p.before(g.slots[child], g.slots[best]) {
				best = child
			}
		}
		if best == i {
			return
		}
		g.swap(p, i, best)
		i = best
	}
}

// order makes a heap of a group whose scores have changed.
func (g *group) order(p *plan) {
	for i := len(g.slots)/2 - 1; i >= 0; i-- {
		g.down(p, i)
	}
}
