package state

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ndf "k8s.io/component-helpers/nodedeclaredfeatures"
)

// Pod is a pod that takes room on a node, or is about to.
type Pod struct {
	Object  *corev1.Pod // shared, immutable
	Node    string
	Assumed bool // placed here by the scheduler, not yet seen bound
	// Preempted pods were told to make room, and are not asked again.
	Preempted bool
	*Demand
	cohort *Cohort
}

// Started is when the pod's node took it up, now for one that has not.
func (p *Pod) Started(now time.Time) time.Time {
	if p.Object.Status.StartTime != nil {
		return p.Object.Status.StartTime.Time
	}
	return now
}

// Node is a node with what its pods take.
type Node struct {
	Name     string
	Slot     int          // its place in lists kept by node
	Object   *corev1.Node // nil for a node that only its pods speak of
	Capacity Resources    // allocatable
	Used     Resources
	Compared Resources // Used, with defaults for pods that request nothing
	Pods     map[types.UID]*Pod
	Cohorts  []Share
	// Features are those the node declares of all that a pod may need.
	Features ndf.FeatureSet
	// Nominated pods wait for room here that others were asked to make.
	Nominated []*Nominee
	images    map[string]int64
	ports     map[Port]int
	levels    []level
}

// level is how much the pods of one priority take, lowest priority first.
type level struct {
	priority int32
	pods     int
	taken    Resources
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

// Below returns how many pods of a lower priority there are and what they take.
func (n *Node) Below(priority int32) (pods int, taken Resources) {
	for i := range n.levels {
		if l := &n.levels[i]; l.priority < priority {
			pods += l.pods
			taken.Add(&l.taken, 1)
		}
	}
	return pods, taken
}

func (n *Node) lift(d *Demand, sign int64) {
	i, found := slices.BinarySearchFunc(n.levels, d.Priority, func(l level, p int32) int { return int(int64(l.priority) - int64(p)) })
	if !found {
		n.levels = slices.Insert(n.levels, i, level{priority: d.Priority})
	}
	l := &n.levels[i]
	l.pods += int(sign)
	l.taken.Add(&d.Hard, sign)
	if l.pods == 0 {
		n.levels = slices.Delete(n.levels, i, i+1)
	}
}

// Put counts a pod on the node, Take takes it off again. They leave all that
// is kept for the cluster as it is: pre-emption asks what if by them, and puts
// back what it took before anything else looks.
func (n *Node) Put(p *Pod) { n.count(p, 1) }

// Take is the reverse of Put.
func (n *Node) Take(p *Pod) { n.count(p, -1) }

func (n *Node) count(p *Pod, sign int64) {
	if sign > 0 {
		n.Pods[p.Object.UID] = p
	} else {
		delete(n.Pods, p.Object.UID)
	}
	n.Used.Add(&p.Hard, sign)
	n.Compared.Add(&p.Compared, sign)
	n.lift(p.Demand, sign)
	n.shift(p.cohort, int(sign))
	for _, x := range p.ports {
		if n.ports == nil {
			n.ports = map[Port]int{}
		}
		if n.ports[x] += int(sign); n.ports[x] == 0 {
			delete(n.ports, x)
		}
	}
}

// Image returns the size in bytes of an image that the node has, 0 without it.
func (n *Node) Image(name string) int64 { return n.images[name] }
