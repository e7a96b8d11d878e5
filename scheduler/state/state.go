package state

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ndf "k8s.io/component-helpers/nodedeclaredfeatures"
)

// State is all nodes and the pods on them. It belongs to one goroutine.
type State struct {
	nodes map[string]*Node
	order []*Node // nodes that exist, in a stable order
	slots []*Node // by slot; nil where none
	free  []int
	pods  map[types.UID]*Pod

	claims     map[Claim]map[types.UID]*Pod
	nominees   map[types.UID]*Nominee
	topologies map[string]*Topology
	images     map[string]int // how many nodes have an image

	cohorts    map[string]*Cohort
	affine     []*Cohort
	affineGone int
	affineEra  int

	journal
}

// New is an empty cluster.
func New() *State {
	return &State{
		nodes: map[string]*Node{}, pods: map[types.UID]*Pod{}, claims: map[Claim]map[types.UID]*Pod{}, nominees: map[types.UID]*Nominee{},
		topologies: map[string]*Topology{}, images: map[string]int{}, cohorts: map[string]*Cohort{},
	}
}

// Nodes returns the nodes that exist. The slice is the state's own.
func (s *State) Nodes() []*Node { return s.order }

// Node finds a node that exists.
func (s *State) Node(name string) *Node {
	if n := s.nodes[name]; n != nil && n.Object != nil {
		return n
	}
	return nil
}

// Slots is more than any node's slot.
func (s *State) Slots() int { return len(s.slots) }

// At returns the node of a slot, nil when none that exists has it.
func (s *State) At(slot int) *Node {
	if n := s.slots[slot]; n != nil && n.Object != nil {
		return n
	}
	return nil
}

// UsersOf returns the placed pods that mount a claim. The map is the state's own.
func (s *State) UsersOf(c Claim) map[types.UID]*Pod { return s.claims[c] }

// Pod finds a placed pod.
func (s *State) Pod(uid types.UID) *Pod { return s.pods[uid] }

// ImageNodes is how many nodes have an image.
func (s *State) ImageNodes(name string) int { return s.images[name] }

// SetNode adds or replaces a node.
func (s *State) SetNode(o *corev1.Node) {
	n := s.node(o.Name)
	if n.Object == nil {
		s.order = append(s.order, n)
	}
	relabelled := n.Object == nil || !maps.Equal(n.Object.Labels, o.Labels)
	if n.Object == nil || !slices.Equal(n.Object.Status.DeclaredFeatures, o.Status.DeclaredFeatures) {
		n.Features = ndf.DefaultFramework.TryMap(o.Status.DeclaredFeatures)
	}
	n.Object, n.Capacity = o, FromList(o.Status.Allocatable)
	if relabelled {
		s.place(n)
	}
	s.setImages(n)
	s.touch(n)
}

// RefreshNode notes a change that no rule reads, such as a heartbeat.
func (s *State) RefreshNode(o *corev1.Node) {
	if n := s.Node(o.Name); n != nil {
		n.Object = o
	}
}

// Touch notes that a node offers something else than before although neither it
// nor the pods on it have changed.
func (s *State) Touch(name string) {
	if n := s.Node(name); n != nil {
		s.touch(n)
	}
}

// RemoveNode removes a node; its pods stay counted until they are gone.
func (s *State) RemoveNode(name string) {
	n := s.nodes[name]
	if n == nil || n.Object == nil {
		return
	}
	n.Object, n.Capacity = nil, Resources{}
	s.order = slices.DeleteFunc(s.order, func(x *Node) bool { return x == n })
	s.place(n)
	s.setImages(n)
	s.touch(n)
	s.drop(n)
}

// place tells the topologies where a node belongs.
func (s *State) place(n *Node) {
	for _, t := range s.topologies {
		t.set(n)
	}
}

func (s *State) setImages(n *Node) {
	var images map[string]int64
	if n.Object != nil {
		images = make(map[string]int64, len(n.Object.Status.Images))
		for _, im := range n.Object.Status.Images {
			for _, name := range im.Names {
				images[name] = im.SizeBytes
			}
		}
	}
	for name := range n.images {
		if _, still := images[name]; !still {
			if s.images[name]--; s.images[name] == 0 {
				delete(s.images, name)
			}
		}
	}
	for name := range images {
		if _, had := n.images[name]; !had {
			s.images[name]++
		}
	}
	n.images = images
}

// Place puts a pod on a node, moving or refreshing it if it is placed already.
func (s *State) Place(o *corev1.Pod, node string, assumed bool) {
	s.PlaceLike(o, node, assumed, DemandOf(o))
}

// PlaceLike is Place for a pod whose demand is known.
func (s *State) PlaceLike(o *corev1.Pod, node string, assumed bool, d *Demand) {
	if old := s.pods[o.UID]; old != nil {
		if old.Node == node && old.same(d) && old.cohort.holds(o) {
			old.set(o)
			old.Assumed = assumed
			return
		}
		s.Remove(o.UID)
	}
	p := &Pod{Node: node, Assumed: assumed, Demand: d, cohort: s.join(o)}
	p.set(o)
	s.hold(p)
}

// holds tells whether a pod is of the cohort, its affinity being unchangeable.
func (c *Cohort) holds(p *corev1.Pod) bool {
	return c.Terminating == (p.DeletionTimestamp != nil) && maps.Equal(c.Labels, p.Labels)
}

// Remove takes a pod off its node. It returns false when it was on none.
func (s *State) Remove(uid types.UID) bool {
	p := s.Suspend(uid)
	if p == nil {
		return false
	}
	s.drop(s.nodes[p.Node])
	return true
}

// Suspend takes a placed pod off its node to ask what were without it, nil when
// there is none; Resume puts it back as it was.
func (s *State) Suspend(uid types.UID) *Pod {
	p := s.pods[uid]
	if p == nil {
		return nil
	}
	delete(s.pods, uid)
	for _, c := range p.claims {
		if delete(s.claims[c], uid); len(s.claims[c]) == 0 {
			delete(s.claims, c)
		}
	}
	n := s.nodes[p.Node]
	n.Take(p)
	s.leave(p.cohort)
	s.touch(n)
	return p // a node that has only this pod is not dropped: it comes back
}

// Resume is the reverse of Suspend.
func (s *State) Resume(p *Pod) {
	p.cohort = s.rejoin(p.cohort)
	s.hold(p)
}

// hold counts a pod where it says that it is.
func (s *State) hold(p *Pod) {
	n := s.node(p.Node)
	s.pods[p.UID] = p
	for _, c := range p.claims {
		if s.claims[c] == nil {
			s.claims[c] = map[types.UID]*Pod{}
		}
		s.claims[c][p.UID] = p
	}
	n.Put(p)
	s.touch(n)
}

func (s *State) node(name string) *Node {
	n := s.nodes[name]
	if n != nil {
		return n
	}
	n = &Node{Name: name, Pods: map[types.UID]*Pod{}, Slot: len(s.slots)}
	if k := len(s.free); k > 0 {
		n.Slot = s.free[k-1]
		s.free = s.free[:k-1]
		s.slots[n.Slot] = n
	} else {
		s.slots = append(s.slots, n)
	}
	s.nodes[name] = n
	return n
}

// drop forgets a node that neither exists nor has pods.
func (s *State) drop(n *Node) {
	if n.Object == nil && len(n.Pods)+len(n.Nominated) == 0 {
		delete(s.nodes, n.Name)
		s.slots[n.Slot] = nil
		s.free = append(s.free, n.Slot)
	}
}
