package plugins

// All lists the rules in upstream's order.
func All() []Plugin {
	return []Plugin{
		NodeUnschedulable{}, NodeName{}, TaintToleration{}, NodeAffinity{}, NodePorts{},
		NodeResourcesFit{}, BalancedAllocation{}, ImageLocality{},
		PodTopologySpread{}, InterPodAffinity{},
	}
}
