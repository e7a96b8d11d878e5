package state

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func labelled(name, zone string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"zone": zone}}}
}

// Nodes that come and go leave nothing behind.
func TestNumbersOfDomainsAndSlotsAreGivenAgain(t *testing.T) {
	s := New()
	topo := s.Topology("zone")
	for i := range 1000 {
		s.SetNode(labelled(fmt.Sprint("n", i), fmt.Sprint("z", i)))
		s.SetNode(labelled(fmt.Sprint("m", i), fmt.Sprint("z", i/2)))
		if i > 2 {
			s.RemoveNode(fmt.Sprint("n", i-3))
			s.RemoveNode(fmt.Sprint("m", i-3))
		}
	}
	if topo.Len() > 16 || s.Slots() > 16 || len(s.nodes) != 6 {
		t.Errorf("%d domains, %d slots for %d nodes", topo.Len(), s.Slots(), len(s.nodes))
	}
}

func TestDomainsOfSeveralNodes(t *testing.T) {
	s := New()
	topo := s.Topology("zone")
	s.SetNode(labelled("a", "1"))
	s.SetNode(labelled("b", "2"))
	a, b := s.Node("a").Slot, s.Node("b").Slot
	if !topo.Single() || topo.Of(a) == topo.Of(b) {
		t.Error("two zones of one node each are not told apart")
	}
	s.SetNode(labelled("b", "1"))
	if topo.Single() || topo.Of(a) != topo.Of(b) {
		t.Error("a zone of two nodes is not seen")
	}
	s.RemoveNode("a")
	if !topo.Single() || topo.Of(a) != -1 {
		t.Error("a node that is gone counts")
	}
}

// The journal names what changed since a mark, and says when it cannot.
func TestJournal(t *testing.T) {
	s := New()
	s.SetNode(labelled("a", "1"))
	mark := s.Now()
	if slots, ok := s.Since(mark); !ok || len(slots) != 0 {
		t.Errorf("nothing changed, but %v, %v", slots, ok)
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "p"}}
	s.Place(p, "a", true)
	s.Place(p, "a", false) // the same pod, seen bound: nothing a rule could read
	if slots, ok := s.Since(mark); !ok || len(slots) != 1 || int(slots[0]) != s.Node("a").Slot {
		t.Errorf("one pod placed: %v, %v", slots, ok)
	}
	for range kept {
		s.SetNode(labelled("a", "1"))
	}
	if _, ok := s.Since(mark); ok {
		t.Error("a journal that was cut reaches back to before the cut")
	}
}
