package plugins

import "sagong/scheduler/state"

// NodeName keeps a pod that names its node off all others.
type NodeName struct{}

// Name implements Plugin.
func (NodeName) Name() string { return "NodeName" }

// Helps implements Plugin.
func (NodeName) Helps() Change { return NodeChanged }

// Filter implements Filter.
func (NodeName) Filter(c *Class, n *state.Node) *No {
	if want := c.Pod.Spec.NodeName; want == "" || want == n.Name {
		return nil
	}
	return otherNode
}

var otherNode = RefuseFinally("node(s) didn't match the requested node name")
