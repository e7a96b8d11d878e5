package plugins

import "sagong/scheduler/state"

// NodePorts keeps pods off nodes where a host port they want is taken.
type NodePorts struct{}

// Name implements Plugin.
func (NodePorts) Name() string { return "NodePorts" }

// Helps implements Plugin.
func (NodePorts) Helps() Change { return NodeChanged | PodGone }

// Filter implements Filter.
func (NodePorts) Filter(c *Class, n *state.Node) *No {
	for _, p := range c.Ports {
		if !n.PortFree(p) {
			return portTaken
		}
	}
	return nil
}

var portTaken = Refuse("node(s) didn't have free ports for the requested pod ports")
