package state

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Nominee is a pod without a node that may count on room on one: pods of its
// priority and below leave that room alone.
type Nominee struct {
	*Pod
	node *Node
}

// Nominate notes that a pod waits for room on a node; "" takes that back.
func (s *State) Nominate(p *corev1.Pod, node string) {
	if old := s.nominees[p.UID]; old != nil {
		if node != "" && old.node.Name == node && old.object == any(p) {
			return
		}
		s.Denominate(p.UID)
	}
	if node == "" {
		return
	}
	n := s.node(node)
	x := &Nominee{&Pod{Node: node, Demand: DemandOf(p), cohort: s.join(p)}, n}
	x.set(p)
	s.nominees[p.UID] = x
	n.Nominated = append(n.Nominated, x)
	s.touch(n)
}

// Denominate takes a nomination back.
func (s *State) Denominate(uid types.UID) {
	x := s.nominees[uid]
	if x == nil {
		return
	}
	delete(s.nominees, uid)
	x.node.Nominated = slices.DeleteFunc(x.node.Nominated, func(o *Nominee) bool { return o == x })
	s.leave(x.cohort)
	s.touch(x.node)
	s.drop(x.node)
}

// NominatedTo returns the node that a pod waits for, "" for none.
func (s *State) NominatedTo(uid types.UID) string {
	if x := s.nominees[uid]; x != nil {
		return x.Node
	}
	return ""
}

// Weighty returns the nominees whose room a pod of a priority must leave alone,
// the pod itself excepted.
func (n *Node) Weighty(priority int32, self types.UID) []*Nominee {
	if len(n.Nominated) == 0 {
		return nil
	}
	var list []*Nominee
	for _, x := range n.Nominated {
		if x.Priority >= priority && x.UID != self {
			list = append(list, x)
		}
	}
	return list
}
