package state

// Topology numbers the values of one node label: the domains that pods are
// spread over or kept apart in. It is kept current from when it is first asked
// for.
type Topology struct {
	Key    string
	of     []int32 // by slot: domain, -1 without the label
	ids    map[string]int32
	nodes  []int32 // by domain: how many nodes
	shared int     // domains of several nodes
}

// Topology returns the domains of a label.
func (s *State) Topology(key string) *Topology {
	t := s.topologies[key]
	if t == nil {
		t = &Topology{Key: key, ids: map[string]int32{}}
		s.topologies[key] = t
		for _, n := range s.order {
			t.set(n)
		}
	}
	return t
}

// Of returns the domain of a node, -1 when the node lacks the label.
func (t *Topology) Of(slot int) int32 {
	if slot >= len(t.of) {
		return -1
	}
	return t.of[slot]
}

// Len is more than any domain's number.
func (t *Topology) Len() int { return len(t.nodes) }

// Single tells whether every domain is one node only, as with host names.
func (t *Topology) Single() bool { return t.shared == 0 }

func (t *Topology) set(n *Node) {
	for len(t.of) <= n.Slot {
		t.of = append(t.of, -1)
	}
	was, is := t.of[n.Slot], int32(-1)
	if n.Object != nil {
		if v, ok := n.Object.Labels[t.Key]; ok {
			if is, ok = t.ids[v]; !ok {
				is = int32(len(t.nodes))
				t.ids[v] = is
				t.nodes = append(t.nodes, 0)
			}
		}
	}
	if was == is {
		return
	}
	t.of[n.Slot] = is
	if was >= 0 {
		if t.nodes[was]--; t.nodes[was] == 1 {
			t.shared--
		}
	}
	if is >= 0 {
		if t.nodes[is]++; t.nodes[is] == 2 {
			t.shared++
		}
	}
}
