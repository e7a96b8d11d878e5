package resource

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"sagong/kubelet/pod"
)

// Signals are what the node has left.
type Signals struct {
	Memory         Memory
	Nodefs, Images Disk
	PIDs, PIDLimit int64
}

// Shortage is a resource of which less is left than must be.
type Shortage struct {
	// Resource as texts name it: "memory", "ephemeral-storage", "inodes", "pids".
	Resource             string
	Threshold, Available int64
}

// String is how the message of an eviction begins.
func (s Shortage) String() string {
	text := func(n int64) string {
		if s.Resource == "inodes" || s.Resource == "pids" {
			return fmt.Sprint(n)
		}
		return resource.NewQuantity(n, resource.BinarySI).String()
	}
	return fmt.Sprintf("The node was low on resource: %s. Threshold quantity: %s, available: %s. ", s.Resource, text(s.Threshold), text(s.Available))
}

// Shortages compares what is left with the thresholds.
func Shortages(s Signals, c Config) []Shortage {
	var out []Shortage
	add := func(name string, threshold, available, total int64) {
		if total > 0 && available < threshold {
			out = append(out, Shortage{Resource: name, Threshold: threshold, Available: available})
		}
	}
	share := func(total int64, f float64) int64 { return int64(float64(total) * f) }
	add("memory", c.MemoryAvailable, s.Memory.Available, s.Memory.Total)
	add("ephemeral-storage", share(s.Nodefs.Total, c.NodefsAvailable), s.Nodefs.Available, s.Nodefs.Total)
	add("inodes", share(s.Nodefs.Inodes, c.NodefsInodesFree), s.Nodefs.InodesFree, s.Nodefs.Inodes)
	if s.Images != s.Nodefs {
		add("ephemeral-storage", share(s.Images.Total, c.ImagefsAvailable), s.Images.Available, s.Images.Total)
	}
	add("pids", s.PIDLimit/20, s.PIDLimit-s.PIDs, s.PIDLimit)
	return out
}

// Tracker turns shortages into conditions that do not flap: one stays for
// PressureTransition after its cause was last seen.
type Tracker struct {
	memory, disk, pids time.Time
}

// Update takes in what is short now.
func (t *Tracker) Update(list []Shortage, now time.Time, c Config) Pressure {
	for _, s := range list {
		switch s.Resource {
		case "memory":
			t.memory = now
		case "pids":
			t.pids = now
		default:
			t.disk = now
		}
	}
	recent := func(at time.Time) bool { return !at.IsZero() && now.Sub(at) < c.PressureTransition }
	return Pressure{Memory: recent(t.memory), Disk: recent(t.disk), PIDs: recent(t.pids)}
}

// Candidate is a pod that might be evicted, with what it uses of the resource
// that is short.
type Candidate struct {
	Pod   *corev1.Pod
	Usage int64
}

// Victim chooses the pod to evict: one that uses more than it asked for before
// one that does not, then the lower priority, then the larger excess. Pods that
// the system cannot do without are never chosen; nil is no candidate.
func Victim(resourceName string, list []Candidate) *Candidate {
	var free []Candidate
	for _, c := range list {
		if p := c.Pod.Spec.Priority; p != nil && *p >= 2000000000 {
			continue
		}
		free = append(free, c)
	}
	if len(free) == 0 {
		return nil
	}
	excess := func(c Candidate) int64 { return c.Usage - request(resourceName, c.Pod) }
	priority := func(c Candidate) int32 {
		if c.Pod.Spec.Priority == nil {
			return 0
		}
		return *c.Pod.Spec.Priority
	}
	slices.SortStableFunc(free, func(a, b Candidate) int {
		over := func(c Candidate) int {
			if excess(c) > 0 {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(over(a), over(b)), cmp.Compare(priority(a), priority(b)), cmp.Compare(excess(b), excess(a)))
	})
	return &free[0]
}

func request(name string, p *corev1.Pod) int64 {
	r := pod.Requests(p)
	switch name {
	case "memory":
		return r.Memory().Value()
	case "ephemeral-storage":
		return r.StorageEphemeral().Value()
	}
	return 0
}

// Why is the message of an eviction.
func Why(s Shortage, c *Candidate) string {
	m := s.String()
	if s.Resource == "memory" || s.Resource == "ephemeral-storage" {
		m += fmt.Sprintf("Pod was using %s, request is %s. ",
			resource.NewQuantity(c.Usage, resource.BinarySI), resource.NewQuantity(request(s.Resource, c.Pod), resource.BinarySI))
	}
	return m
}
