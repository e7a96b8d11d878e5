package state

import (
	"slices"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ndf "k8s.io/component-helpers/nodedeclaredfeatures"
)

// Pod is a pod that takes room on a node, or is about to. Of its object it holds
// what is asked of very many pods at once.
type Pod struct {
	UID     types.UID
	Group   unique.Handle[string] // the PodGroup's name; the zero value without one
	Node    string
	Assumed bool // placed here by the scheduler, not yet seen bound
	// Preempted pods were told to make room, and are not asked again.
	Preempted bool
	*Demand
	cohort  *Cohort
	started int64 // in seconds since 1970; 0 for not yet
	object  any   // *corev1.Pod, or what source gives it for
	source  Source
}

// Source gives the pod of what a view keeps for it (reconcile.View.Kept).
type Source func(any) *corev1.Pod

func (p *Pod) set(o *corev1.Pod) {
	p.UID, p.object, p.source, p.started, p.Group = o.UID, o, nil, 0, unique.Handle[string]{}
	if t := o.Status.StartTime; t != nil {
		p.started = t.Unix()
	}
	if g := o.Spec.SchedulingGroup; g != nil && g.PodGroupName != nil && *g.PodGroupName != "" {
		p.Group = unique.Make(*g.PodGroupName)
	}
}

// Object is the pod, shared and immutable. It may have to be decoded.
func (p *Pod) Object() *corev1.Pod {
	if p.source != nil {
		return p.source(p.object)
	}
	return p.object.(*corev1.Pod)
}

// Keep has the pod's object come from source from now on.
func (p *Pod) Keep(kept any, source Source) { p.object, p.source = kept, source }

// Namespace is the pod's.
func (p *Pod) Namespace() string { return p.cohort.Namespace }

// Labels are the pod's.
func (p *Pod) Labels() map[string]string { return p.cohort.Labels }

// Terminating tells whether the pod is being deleted.
func (p *Pod) Terminating() bool { return p.cohort.Terminating }

// Started is when the pod's node took it up, now for one that has not.
func (p *Pod) Started(now time.Time) time.Time {
	if p.started != 0 {
		return time.Unix(p.started, 0)
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
		n.Pods[p.UID] = p
	} else {
		delete(n.Pods, p.UID)
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
