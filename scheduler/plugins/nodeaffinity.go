package plugins

import "sagong/scheduler/state"

// NodeAffinity obeys nodeSelector and node affinity.
type NodeAffinity struct{}

// Name implements Plugin.
func (NodeAffinity) Name() string { return "NodeAffinity" }

// Helps implements Plugin.
func (NodeAffinity) Helps() Change { return NodeChanged }

// Weight implements Static.
func (NodeAffinity) Weight() int64 { return 2 }

// Filter implements Filter.
func (NodeAffinity) Filter(c *Class, n *state.Node) *No {
	if ok, err := c.required.Match(n.Object); err == nil && ok {
		return nil
	}
	return RefuseFinally("node(s) didn't match Pod's node affinity/selector")
}

// Score implements Static: the weights of the preferred terms that match.
func (NodeAffinity) Score(c *Class, n *state.Node) int64 {
	if c.preferred == nil {
		return 0
	}
	return c.preferred.Score(n.Object)
}

// Normalize implements Static.
func (NodeAffinity) Normalize(scores []int64) { normalize(scores, false) }
