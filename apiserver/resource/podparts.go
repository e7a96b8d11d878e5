package resource

import (
	"hash/maphash"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// podParts lets pods that nobody sees yet share what they have in common with
// pods that are not of their owner: the name and the addresses of their node, and
// their conditions. Those have times in them, in seconds, which are few however
// many pods start.
type podParts struct {
	mu         sync.Mutex
	seed       maphash.Seed
	conditions map[uint64][]corev1.PodCondition
	nodes      map[string]nodeParts
}

// nodeParts is what the pods of a node have of it.
type nodeParts struct {
	name string
	ip   string
	ips  []corev1.HostIP
}

// podPartsKept bounds how many lists of conditions, and nodes, are remembered;
// beyond it all are forgotten.
const podPartsKept = 8192

func (s *podParts) share(p *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conditions == nil || len(s.conditions) >= podPartsKept {
		s.seed, s.conditions = maphash.MakeSeed(), map[uint64][]corev1.PodCondition{}
	}
	if c := p.Status.Conditions; len(c) > 0 {
		var h maphash.Hash
		h.SetSeed(s.seed)
		for i := range c {
			maphash.WriteComparable(&h, c[i])
		}
		at := h.Sum64()
		if known := s.conditions[at]; slices.Equal(known, c) {
			p.Status.Conditions = known
		} else {
			s.conditions[at] = c
		}
	}
	if p.Spec.NodeName == "" {
		return
	}
	if s.nodes == nil || len(s.nodes) >= podPartsKept {
		s.nodes = map[string]nodeParts{}
	}
	n, ok := s.nodes[p.Spec.NodeName]
	if !ok {
		n.name = p.Spec.NodeName
	}
	p.Spec.NodeName = n.name
	switch {
	case n.ip == p.Status.HostIP && slices.Equal(n.ips, p.Status.HostIPs):
		p.Status.HostIP, p.Status.HostIPs = n.ip, n.ips
	case p.Status.HostIP != "":
		n.ip, n.ips = p.Status.HostIP, p.Status.HostIPs
		ok = false
	}
	if !ok {
		s.nodes[n.name] = n
	}
}
