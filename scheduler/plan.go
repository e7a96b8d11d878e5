package scheduler

import (
	"slices"

	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

// plan is where pods of one class can go, worked out for every node once and
// then only for nodes that changed.
type plan struct {
	p *profile
	c *plugins.Class
	s *state.State

	judges    []judge
	versioned []versioned
	relative  []relative
	absolute  []absolute
	counting  []counter
	only      []string // the nodes to look at, nil for all

	mark    int // how far the state's journal was followed
	entries []entry
	seen    []uint32 // by slot: the refresh that last looked
	round   uint32

	groups map[string]*group // nodes that pass, by signature
	list   []*group
	nodes  int
	// counts is how many nodes each reason rules out, ruled how many each rule
	// does.
	counts  map[string]int
	ruled   []int
	rescore bool // the best of a relative score changed
	scratch []byte
	picking picking
	victims victimCache
}

// judge is a rule that looks at one node, bound to the class.
type judge struct {
	rule   int
	filter func(*state.Node) *plugins.No
}

type versioned struct {
	plugins.NodeFilter
	version uint64
}

type relative struct {
	plugins.Relative
	weight int64
	raw    []int64 // by slot
	top    int64
	left   bool // the node being judged was at the top
}

type absolute struct {
	score  func(*state.Node) int64
	weight int64
}

type counter struct {
	plugins.Counting
	rule    int
	filters bool
	weight  int64
}

// entry is what a plan knows of a node.
type entry struct {
	exists  bool
	claimed bool // nominees' room must be left alone
	no      *plugins.No
	rule    int32
	at      int32 // place in the group's heap
	group   *group
	score   int64 // absolute scores alone
	total   int64
	order   uint64
}

// outside is why a node will not do that the pod's affinity does not name.
const outside = "node(s) didn't satisfy plugin(s) [NodeAffinity]"

// fill looks at every node.
func (p *plan) fill() {
	p.mark = p.s.Now()
	p.grow()
	p.round++
	for _, n := range p.s.Nodes() {
		for i := range p.counting {
			p.counting[i].Recount(n.Slot, n)
		}
	}
	// Signatures follow from counts, hence a second pass.
	p.p.turn++
	if p.only == nil {
		for _, n := range p.s.Nodes() {
			p.judge(n.Slot, n)
		}
	}
	for _, name := range p.only {
		if n := p.s.Node(name); n != nil {
			p.judge(n.Slot, n)
		}
	}
	p.settle()
}

// confined tells whether the pod's affinity names other nodes only.
func (p *plan) confined(n *state.Node) bool {
	if p.only == nil || n == nil {
		return false
	}
	_, in := slices.BinarySearch(p.only, n.Name)
	return !in
}

// filtering tells whether rules that count may rule nodes out.
func (p *plan) filtering() bool {
	for i := range p.counting {
		if c := &p.counting[i]; c.filters && c.Filters() {
			return true
		}
	}
	return false
}

func (p *plan) grow() {
	k := p.s.Slots()
	if p.entries == nil {
		p.entries, p.seen = make([]entry, k, k+k/8), make([]uint32, k, k+k/8)
		for i := range p.relative {
			p.relative[i].raw = make([]int64, k, k+k/8)
		}
	}
	for len(p.entries) < k {
		p.entries = append(p.entries, entry{})
		p.seen = append(p.seen, 0)
		for i := range p.relative {
			p.relative[i].raw = append(p.relative[i].raw, 0)
		}
	}
}

// refresh brings the plan up to date; false when it must be made anew.
func (p *plan) refresh() bool {
	for i := range p.versioned {
		if v := &p.versioned[i]; v.Version() != v.version {
			return false
		}
	}
	for i := range p.counting {
		if p.counting[i].Stale() {
			return false
		}
	}
	slots, ok := p.s.Since(p.mark)
	if !ok {
		return false
	}
	p.mark = p.s.Now()
	if len(slots) == 0 {
		return true
	}
	p.grow()
	p.round++
	for _, slot := range slots {
		if p.seen[slot] == p.round {
			continue
		}
		p.seen[slot] = p.round
		n := p.s.At(int(slot))
		for i := range p.counting {
			p.counting[i].Recount(int(slot), n)
		}
		if !p.confined(n) {
			p.judge(int(slot), n)
		}
	}
	for i := range p.counting {
		if p.counting[i].Stale() { // by what the nodes turned out to hold
			return false
		}
	}
	p.settle()
	return true
}
