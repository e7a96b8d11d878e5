package scheduler

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"strings"

	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

// placer decides where pods go. It changes nothing but the state it is given,
// in which a pod it places is counted at once.
type placer struct {
	filters []plugins.Filter
	static  []plugins.Static
	dynamic []plugins.Dynamic
	global  []plugins.Global
	turn    int // where the search starts, so that equal nodes take turns
}

func newPlacer(all []plugins.Plugin) *placer {
	p := &placer{}
	for _, x := range all {
		if f, ok := x.(plugins.Filter); ok {
			p.filters = append(p.filters, f)
		}
		if s, ok := x.(plugins.Static); ok {
			p.static = append(p.static, s)
		}
		if d, ok := x.(plugins.Dynamic); ok {
			p.dynamic = append(p.dynamic, d)
		}
		if g, ok := x.(plugins.Global); ok {
			p.global = append(p.global, g)
		}
	}
	return p
}

// unfit says why a class fits on no node.
type unfit struct {
	message string
	// helps are the changes after which trying again makes sense.
	helps plugins.Change
}

// candidate is a node that passed the filters that do not change from pod to pod.
type candidate struct {
	node   *state.Node
	static int64
	score  int64
	order  int
}

// place finds nodes for up to k pods of one class. take is called for each with
// the node chosen, and must count the pod there. It stops at the first pod that
// fits nowhere and says why.
func (p *placer) place(c *plugins.Class, s *state.State, k int, take func(*state.Node)) *unfit {
	nodes := s.Nodes()
	if len(nodes) == 0 {
		return &unfit{message: "no nodes available to schedule pods", helps: plugins.NodeChanged}
	}
	why := reasons{}
	var counting []plugins.Counting
	var countingOf []plugins.Plugin
	for _, g := range p.global {
		if x := g.Begin(c, s); x != nil {
			counting, countingOf = append(counting, x), append(countingOf, g)
		}
	}
	p.turn++
	feasible := make([]candidate, 0, len(nodes))
	for i := range nodes {
		n := nodes[(i+p.turn)%len(nodes)]
		if p.passes(c, n, why) {
			feasible = append(feasible, candidate{node: n, order: i})
		}
	}
	p.scoreStatic(c, feasible)
	if len(counting) > 0 {
		return p.placeCounting(c, s, k, take, feasible, counting, countingOf, why)
	}
	for i := range feasible {
		feasible[i].score = feasible[i].static + p.scoreDynamic(c, feasible[i].node)
	}
	h := (*byScore)(&feasible)
	heap.Init(h)
	for ; k > 0; k-- {
		if h.Len() == 0 {
			return why.sum(len(nodes))
		}
		best := &(*h)[0]
		take(best.node)
		if p.passes(c, best.node, why) {
			best.score = best.static + p.scoreDynamic(c, best.node)
			heap.Fix(h, 0)
		} else {
			heap.Pop(h)
		}
	}
	return nil
}

// placeCounting is place for classes whose verdict on every node may change
// with each pod placed.
func (p *placer) placeCounting(c *plugins.Class, s *state.State, k int, take func(*state.Node), feasible []candidate, counting []plugins.Counting, of []plugins.Plugin, base reasons) *unfit {
	for ; k > 0; k-- {
		why := base.clone()
		var open []candidate
		for i := range feasible {
			n := feasible[i].node
			if !p.passes(c, n, why) {
				continue
			}
			fits := true
			for j, x := range counting {
				if r := x.Filter(n); r != nil {
					why.add(of[j], r)
					fits = false
					break
				}
			}
			if fits {
				open = append(open, feasible[i])
			}
		}
		if len(open) == 0 {
			return why.sum(len(s.Nodes()))
		}
		for i := range open {
			open[i].score = open[i].static + p.scoreDynamic(c, open[i].node)
		}
		for _, x := range counting {
			raw := make([]int64, len(open))
			for i := range open {
				raw[i] = x.Score(open[i].node)
			}
			spread(raw)
			for i := range open {
				open[i].score += raw[i] * x.Weight()
			}
		}
		best := slices.MinFunc(open, func(a, b candidate) int {
			if a.score != b.score {
				return cmp.Compare(b.score, a.score)
			}
			return a.order - b.order
		})
		take(best.node)
		for _, x := range counting {
			x.Placed(best.node)
		}
	}
	return nil
}

func (p *placer) passes(c *plugins.Class, n *state.Node, why reasons) bool {
	for _, f := range p.filters {
		if r := f.Filter(c, n); r != nil {
			why.add(f, r)
			return false
		}
	}
	return true
}

func (p *placer) scoreStatic(c *plugins.Class, feasible []candidate) {
	raw := make([]int64, len(feasible))
	for _, x := range p.static {
		for i := range feasible {
			raw[i] = x.Score(c, feasible[i].node)
		}
		x.Normalize(raw)
		for i := range feasible {
			feasible[i].static += raw[i] * x.Weight()
		}
	}
}

func (p *placer) scoreDynamic(c *plugins.Class, n *state.Node) int64 {
	var sum int64
	for _, x := range p.dynamic {
		sum += x.ScoreAfter(c, n) * x.Weight()
	}
	return sum
}

// spread maps scores linearly onto 0..100.
func spread(scores []int64) {
	if len(scores) == 0 {
		return
	}
	low, high := slices.Min(scores), slices.Max(scores)
	for i := range scores {
		if high == low {
			scores[i] = plugins.MaxScore
		} else {
			scores[i] = (scores[i] - low) * plugins.MaxScore / (high - low)
		}
	}
}

// byScore is a heap with the best candidate on top.
type byScore []candidate

func (h byScore) Len() int { return len(h) }
func (h byScore) Less(i, j int) bool {
	if h[i].score != h[j].score {
		return h[i].score > h[j].score
	}
	return h[i].order < h[j].order
}
func (h byScore) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *byScore) Push(x any)   { *h = append(*h, x.(candidate)) }
func (h *byScore) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// reasons counts nodes by why they were ruled out.
type reasons map[string]reason

type reason struct {
	nodes int
	helps plugins.Change
}

func (r reasons) add(p plugins.Plugin, no *plugins.No) {
	for _, t := range no.Reasons {
		x := r[t]
		x.nodes++
		x.helps |= p.Helps()
		r[t] = x
	}
}

func (r reasons) clone() reasons {
	c := make(reasons, len(r))
	for k, v := range r {
		c[k] = v
	}
	return c
}

// sum words the counts as upstream does: "0/3 nodes are available: 1 node(s)
// were unschedulable, 2 Insufficient cpu."
func (r reasons) sum(nodes int) *unfit {
	u := &unfit{}
	parts := make([]string, 0, len(r))
	for text, x := range r {
		parts = append(parts, fmt.Sprintf("%d %s", x.nodes, text))
		u.helps |= x.helps
	}
	slices.Sort(parts)
	u.message = fmt.Sprintf("0/%d nodes are available: %s.", nodes, strings.Join(parts, ", "))
	return u
}
