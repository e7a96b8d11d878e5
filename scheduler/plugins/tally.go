package plugins

import (
	"encoding/binary"
	"math"

	"sagong/scheduler/state"
)

// tally sums what nodes contribute, over the domains of one topology.
type tally struct {
	topo   *state.Topology
	single bool // domains are nodes: see sign

	at    []int32 // by slot: the domain its contribution went to, -1 for none
	part  []int64 // by slot: the contribution
	sum   []int64 // by domain
	nodes []int32 // by domain: contributing nodes
	total int64
	// spread counts domains by their sum, for the least of them.
	spread  map[int64]int32
	domains int
}

func newTally(s *state.State, key string) *tally {
	t := s.Topology(key)
	return &tally{topo: t, single: t.Single(), spread: map[int64]int32{}}
}

// stale says that domains are not nodes any more, or have become so.
func (t *tally) stale() bool { return t.single != t.topo.Single() }

// set makes a node contribute n to its domain; not at all when it does not count.
func (t *tally) set(slot int, counts bool, n int64) {
	for len(t.at) <= slot {
		t.at, t.part = append(t.at, -1), append(t.part, 0)
	}
	d := int32(-1)
	if counts {
		d = t.topo.Of(slot)
	}
	if d < 0 {
		n = 0
	}
	was := t.at[slot]
	if was == d && t.part[slot] == n {
		return
	}
	for len(t.sum) < t.topo.Len() {
		t.sum, t.nodes = append(t.sum, 0), append(t.nodes, 0)
	}
	if was >= 0 {
		t.move(was, -t.part[slot], -1)
	}
	if d >= 0 {
		t.move(d, n, 1)
	}
	t.at[slot], t.part[slot] = d, n
}

func (t *tally) move(d int32, n int64, nodes int32) {
	if t.nodes[d] > 0 {
		if t.spread[t.sum[d]]--; t.spread[t.sum[d]] == 0 {
			delete(t.spread, t.sum[d])
		}
		t.domains--
	}
	t.sum[d] += n
	t.nodes[d] += nodes
	t.total += n
	if t.nodes[d] > 0 {
		t.spread[t.sum[d]]++
		t.domains++
	}
}

// least is the smallest sum of a domain, the largest number without domains.
func (t *tally) least() int64 {
	low := int64(math.MaxInt32)
	for n := range t.spread {
		low = min(low, n)
	}
	return low
}

// of is the sum of a node's domain; false when the node is in none.
func (t *tally) of(slot int) (int64, bool) {
	d := t.topo.Of(slot)
	if d < 0 {
		return 0, false
	}
	if int(d) >= len(t.sum) {
		return 0, true
	}
	return t.sum[d], true
}

// own is what a node itself contributes.
func (t *tally) own(slot int) int64 {
	if slot >= len(t.part) {
		return 0
	}
	return t.part[slot]
}

// sign appends what tells a node's domain from others: the domain itself, or,
// where domains are nodes, no more than the count, so that equal nodes are one
// group.
func (t *tally) sign(b []byte, slot int) []byte {
	d := t.topo.Of(slot)
	if t.single && d >= 0 {
		n, _ := t.of(slot)
		return binary.AppendVarint(append(b, 1), n)
	}
	return binary.AppendVarint(append(b, 0), int64(d))
}
