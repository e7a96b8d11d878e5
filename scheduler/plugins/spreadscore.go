package plugins

import (
	"math"

	"sagong/scheduler/state"
)

// Scores implements Counting: fewer matching pods in the node's domains is
// better, a domain of many being weighted down so that a few large ones are not
// drowned by many small.
func (sp *spreading) Scores(groups []Group, scores []int64) bool {
	if len(sp.soft) == 0 {
		return false
	}
	ignored := func(n *state.Node) bool { return sp.needAll && !hasAll(sp.soft, n.Slot) }
	weights := make([]float64, len(sp.soft))
	for i, x := range sp.soft {
		weights[i] = math.Log(float64(x.size(groups, ignored) + 2))
	}
	low, high := int64(math.MaxInt64), int64(0)
	for i, g := range groups {
		scores[i] = -1
		if ignored(g.Node) {
			continue
		}
		var sum float64
		for k, x := range sp.soft {
			count, ok := x.of(g.Node.Slot)
			if x.perNode && ok {
				count = x.mine[g.Node.Slot]
			}
			if ok {
				sum += float64(count)*weights[k] + float64(x.maxSkew-1)
			}
		}
		scores[i] = int64(math.Round(sum))
		low, high = min(low, scores[i]), max(high, scores[i])
	}
	for i := range groups {
		switch {
		case scores[i] < 0:
			scores[i] = 0
		case high == 0:
			scores[i] = MaxScore
		default:
			scores[i] = MaxScore * (high + low - scores[i]) / high
		}
	}
	return true
}

// size is how many domains the groups lie in.
func (x *spreadConstraint) size(groups []Group, ignored func(*state.Node) bool) int {
	k := 0
	x.stamp++
	for len(x.domainsStamp) <= x.topo.Len() {
		x.domainsStamp = append(x.domainsStamp, 0)
	}
	for _, g := range groups {
		switch d := x.topo.Of(g.Node.Slot) + 1; {
		case ignored(g.Node):
		case x.perNode, x.single && d > 0:
			k += g.Nodes
		case x.domainsStamp[d] != x.stamp:
			x.domainsStamp[d] = x.stamp
			k++
		}
	}
	return k
}
