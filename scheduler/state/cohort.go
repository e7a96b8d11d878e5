package state

import (
	"encoding/binary"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Cohort is all placed pods that other pods' selectors cannot tell apart: same
// namespace, labels and pod (anti-)affinity. Rules that count pods look at each
// cohort once, however many pods it has.
type Cohort struct {
	Namespace string
	Labels    map[string]string
	// Affinity is the pods' own, nil without any between pods.
	Affinity *corev1.Affinity
	// Terminating pods are on their way out: spreading does not count them.
	Terminating bool

	key  string
	pods int // placed, on all nodes
}

// Share is how many pods of a cohort a node has.
type Share struct {
	*Cohort
	Pods int
}

// cohortKey is equal for pods of one cohort.
func cohortKey(p *corev1.Pod) string {
	b := make([]byte, 0, 128)
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	text(p.Namespace)
	keys := make([]string, 0, len(p.Labels))
	for k := range p.Labels {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b = binary.AppendUvarint(b, uint64(len(keys)))
	for _, k := range keys {
		text(k)
		text(p.Labels[k])
	}
	if p.DeletionTimestamp != nil {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	if a := podAffinity(p); a != nil {
		for _, x := range []interface{ Marshal() ([]byte, error) }{a.PodAffinity, a.PodAntiAffinity} {
			enc, _ := x.Marshal() // of plain data, nil included: cannot fail
			text(string(enc))
		}
	}
	return string(b)
}

func podAffinity(p *corev1.Pod) *corev1.Affinity {
	a := p.Spec.Affinity
	if a == nil || a.PodAffinity == nil && a.PodAntiAffinity == nil {
		return nil
	}
	if a.PodAffinity == nil {
		return &corev1.Affinity{PodAffinity: &corev1.PodAffinity{}, PodAntiAffinity: a.PodAntiAffinity}
	}
	if a.PodAntiAffinity == nil {
		return &corev1.Affinity{PodAffinity: a.PodAffinity, PodAntiAffinity: &corev1.PodAntiAffinity{}}
	}
	return a
}

// join counts a pod into its cohort.
func (s *State) join(p *corev1.Pod) *Cohort {
	key := cohortKey(p)
	c := s.cohorts[key]
	if c == nil {
		c = &Cohort{Namespace: p.Namespace, Labels: p.Labels, Affinity: podAffinity(p), Terminating: p.DeletionTimestamp != nil, key: key}
		s.found(c)
	}
	c.pods++
	return c
}

// rejoin counts a pod into the cohort that it has left, or its successor.
func (s *State) rejoin(left *Cohort) *Cohort {
	c := s.cohorts[left.key]
	if c == nil {
		fresh := *left
		c = &fresh
		s.found(c)
	}
	c.pods++
	return c
}

func (s *State) found(c *Cohort) {
	s.cohorts[c.key] = c
	if c.Affinity != nil {
		s.affine = append(s.affine, c)
	}
}

func (s *State) leave(c *Cohort) {
	if c.pods--; c.pods > 0 {
		return
	}
	delete(s.cohorts, c.key)
	if c.Affinity != nil {
		if s.affineGone++; s.affineGone > 64 && s.affineGone > len(s.affine)/2 {
			s.affine = slices.DeleteFunc(slices.Clone(s.affine), func(x *Cohort) bool { return x.pods == 0 })
			s.affineGone = 0
			s.affineEra++
		}
	}
}

// Affine returns the cohorts with affinity between pods that have appeared since
// from, a value returned before (zero at first), and where to go on next time.
// Some may have no pods any more.
func (s *State) Affine(from AffineMark) ([]*Cohort, AffineMark) {
	next := AffineMark{s.affineEra, len(s.affine)}
	if from.era != s.affineEra || from.at > len(s.affine) {
		return s.affine, next
	}
	return s.affine[from.at:], next
}

// AffineMark is a place in the list of Affine.
type AffineMark struct{ era, at int }

// shift changes how many pods of a cohort a node has.
func (n *Node) shift(c *Cohort, by int) {
	for i := range n.Cohorts {
		if n.Cohorts[i].Cohort != c {
			continue
		}
		if n.Cohorts[i].Pods += by; n.Cohorts[i].Pods == 0 {
			last := len(n.Cohorts) - 1
			n.Cohorts[i] = n.Cohorts[last]
			n.Cohorts[last] = Share{}
			n.Cohorts = n.Cohorts[:last]
		}
		return
	}
	n.Cohorts = append(n.Cohorts, Share{c, by})
}
