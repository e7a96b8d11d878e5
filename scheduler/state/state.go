package state

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Port is a port of the node that a pod holds.
type Port struct {
	Address  string // 0.0.0.0 for all
	Protocol corev1.Protocol
	Port     int32
}

// Ports returns the host ports a pod asks for.
func Ports(p *corev1.Pod) []Port {
	var ports []Port
	collect := func(c *corev1.Container) {
		for _, x := range c.Ports {
			if x.HostPort == 0 {
				continue
			}
			port := Port{Address: x.HostIP, Protocol: x.Protocol, Port: x.HostPort}
			if port.Address == "" || port.Address == "::" {
				port.Address = "0.0.0.0"
			}
			if port.Protocol == "" {
				port.Protocol = corev1.ProtocolTCP
			}
			if !slices.Contains(ports, port) {
				ports = append(ports, port)
			}
		}
	}
	for i := range p.Spec.Containers {
		collect(&p.Spec.Containers[i])
	}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			collect(c)
		}
	}
	return ports
}

// Pod is a pod that takes room on a node, or is about to.
type Pod struct {
	Object         *corev1.Pod // shared, immutable
	Node           string
	Assumed        bool // placed here by the scheduler, not yet seen bound
	hard, compared Resources
	ports          []Port
}

// Node is a node with what its pods take.
type Node struct {
	Name     string
	Object   *corev1.Node // nil for a node that only its pods speak of
	Capacity Resources    // allocatable
	Used     Resources
	Compared Resources // Used, with defaults for pods that request nothing
	Pods     map[types.UID]*Pod
	ports    map[Port]int
}

// PortFree tells whether a pod could take a host port. A port on all addresses
// clashes with the same port on any.
func (n *Node) PortFree(p Port) bool {
	for have := range n.ports {
		if have.Port == p.Port && have.Protocol == p.Protocol &&
			(have.Address == p.Address || have.Address == "0.0.0.0" || p.Address == "0.0.0.0") {
			return false
		}
	}
	return true
}

// State is all nodes and the pods on them. It belongs to one goroutine.
type State struct {
	nodes map[string]*Node
	order []*Node // nodes that exist, in a stable order
	pods  map[types.UID]*Pod
	// antiAffine holds the pods with required anti-affinity: they speak against
	// newcomers.
	antiAffine map[types.UID]*Pod
	claims     map[Claim]map[types.UID]*Pod
}

// Claim names a PersistentVolumeClaim.
type Claim struct{ Namespace, Name string }

// Claims returns the claims whose volumes a pod mounts, those of its ephemeral
// volumes among them.
func Claims(p *corev1.Pod) []Claim {
	var names []Claim
	for i := range p.Spec.Volumes {
		switch v := &p.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			names = append(names, Claim{p.Namespace, v.PersistentVolumeClaim.ClaimName})
		case v.Ephemeral != nil:
			names = append(names, Claim{p.Namespace, p.Name + "-" + v.Name})
		}
	}
	return names
}

// New is an empty cluster.
func New() *State {
	return &State{nodes: map[string]*Node{}, pods: map[types.UID]*Pod{}, antiAffine: map[types.UID]*Pod{}, claims: map[Claim]map[types.UID]*Pod{}}
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

// AntiAffine returns the placed pods with required anti-affinity.
func (s *State) AntiAffine() map[types.UID]*Pod { return s.antiAffine }

// UsersOf returns the placed pods that mount a claim. The map is the state's own.
func (s *State) UsersOf(c Claim) map[types.UID]*Pod { return s.claims[c] }

// Pod finds a placed pod.
func (s *State) Pod(uid types.UID) *Pod { return s.pods[uid] }

// SetNode adds or replaces a node.
func (s *State) SetNode(o *corev1.Node) {
	n := s.node(o.Name)
	if n.Object == nil {
		s.order = append(s.order, n)
	}
	n.Object, n.Capacity = o, FromList(o.Status.Allocatable)
}

// RemoveNode removes a node; its pods stay counted until they are gone.
func (s *State) RemoveNode(name string) {
	n := s.nodes[name]
	if n == nil || n.Object == nil {
		return
	}
	n.Object, n.Capacity = nil, Resources{}
	s.order = slices.DeleteFunc(s.order, func(x *Node) bool { return x == n })
	s.drop(n)
}

// Place puts a pod on a node, moving or refreshing it if it is placed already.
func (s *State) Place(o *corev1.Pod, node string, assumed bool) {
	s.Remove(o.UID)
	p := &Pod{Object: o, Node: node, Assumed: assumed, ports: Ports(o)}
	p.hard, p.compared = Requests(o)
	n := s.node(node)
	s.pods[o.UID] = p
	n.Pods[o.UID] = p
	n.Used.Add(&p.hard, 1)
	n.Compared.Add(&p.compared, 1)
	for _, x := range p.ports {
		if n.ports == nil {
			n.ports = map[Port]int{}
		}
		n.ports[x]++
	}
	for _, c := range Claims(o) {
		if s.claims[c] == nil {
			s.claims[c] = map[types.UID]*Pod{}
		}
		s.claims[c][o.UID] = p
	}
	if a := o.Spec.Affinity; a != nil && a.PodAntiAffinity != nil && len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
		s.antiAffine[o.UID] = p
	}
}

// Remove takes a pod off its node. It returns false when it was on none.
func (s *State) Remove(uid types.UID) bool {
	p := s.pods[uid]
	if p == nil {
		return false
	}
	n := s.nodes[p.Node]
	delete(s.pods, uid)
	delete(s.antiAffine, uid)
	delete(n.Pods, uid)
	for _, c := range Claims(p.Object) {
		if delete(s.claims[c], uid); len(s.claims[c]) == 0 {
			delete(s.claims, c)
		}
	}
	n.Used.Add(&p.hard, -1)
	n.Compared.Add(&p.compared, -1)
	for _, x := range p.ports {
		if n.ports[x]--; n.ports[x] == 0 {
			delete(n.ports, x)
		}
	}
	s.drop(n)
	return true
}

func (s *State) node(name string) *Node {
	n := s.nodes[name]
	if n == nil {
		n = &Node{Name: name, Pods: map[types.UID]*Pod{}}
		s.nodes[name] = n
	}
	return n
}

// drop forgets a node that neither exists nor has pods.
func (s *State) drop(n *Node) {
	if n.Object == nil && len(n.Pods) == 0 {
		delete(s.nodes, n.Name)
	}
}
