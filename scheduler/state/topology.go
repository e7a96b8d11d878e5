package state

// Topology numbers the values of one node label: the domains that pods are
// spread over or kept apart in. It is kept current from when it is first asked
// for.
type Topology struct {
	Key    string
	of     []int32 // by slot: domain, -1 without the label
	ids    map[string]int32
	names  []string // by domain
	nodes  []int32  // by domain: how many nodes
	free   []int32  // domains without nodes, whose numbers are given again
	shared int      // domains of several nodes
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
				is = t.add(v)
			}
		}
	}
	if was == is {
		return
	}
	t.of[n.Slot] = is
	if was >= 0 {
		switch t.nodes[was]--; t.nodes[was] {
		case 1:
			t.shared--
		case 0:
			delete(t.ids, t.names[was])
			t.free = append(t.free, was)
		}
	}
	if is >= 0 {
		if t.nodes[is]++; t.nodes[is] == 2 {
			t.shared++
		}
	}
}

// add numbers a value.
func (t *Topology) add(value string) int32 {
	var id int32
	if k := len(t.free); k > 0 {
		id = t.free[k-1]
		t.free = t.free[:k-1]
		t.names[id] = value
	} else {
		id = int32(len(t.nodes))
		t.nodes, t.names = append(t.nodes, 0), append(t.names, value)
	}
	t.ids[value] = id
	return id
}
