package scheduler

import (
	"flag"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	seed  = flag.Uint64("seed", 0, "replay one random cluster alone")
	seeds = flag.Uint64("seeds", 150, "how many random clusters to try")
)

func each(t *testing.T, f func(t *testing.T, seed uint64)) {
	if *seed != 0 {
		f(t, *seed)
		return
	}
	for i := range *seeds {
		f(t, i+1)
		if t.Failed() {
			t.Fatalf("replay with -seed %d", i+1)
		}
	}
}

// Pods in random clusters that keep changing: none is put where a hard rule
// forbids it, and none is left over that could be put anywhere.
func TestPlacementHoldsAgainstThePlainDefinition(t *testing.T) {
	each(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed)
		var classes []*corev1.Pod
		for range 40 {
			if w.chance(3) {
				w.disturb()
			}
			var p *corev1.Pod
			if len(classes) > 0 && !w.chance(3) {
				p = w.like(classes[w.IntN(len(classes))]) // a plan is kept, and must be current
			} else {
				p = w.randomPod()
				classes = append(classes, p)
			}
			n, no := w.s.placeOne(p)
			if no != nil {
				for _, m := range w.plain.nodes {
					if w.plain.may(p, m) {
						t.Fatalf("seed %d: pod %s could go on %s, but: %s", seed, p.Name, m.Name, no.message())
					}
				}
				continue
			}
			if !w.plain.may(p, w.plain.node(n.Name)) {
				t.Fatalf("seed %d: pod %s must not go on %s", seed, p.Name, n.Name)
			}
			w.plain.pods[p.Name], w.plain.at[p.Name] = p, n.Name
		}
	})
}

// Pre-emption in random full clusters takes the least, by the definition of what
// is least, and nothing when nothing would do.
func TestPreemptionHoldsAgainstThePlainDefinition(t *testing.T) {
	tried, asked := 0, 0
	each(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed)
		for range w.IntN(3) {
			w.n++
			b := &policyv1.PodDisruptionBudget{
				ObjectMeta: metav1.ObjectMeta{Namespace: w.pick("a", "b"), Name: fmt.Sprint("b", w.n)},
				Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": w.pick("x", "y")}}},
				Status:     policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: int32(w.IntN(2))},
			}
			w.plain.budgets = append(w.plain.budgets, b)
			w.s.budgets.set(b)
		}
		for range 60 {
			p := w.randomPod()
			if w.chance(2) {
				w.simple(p)
			}
			if len(w.plain.nominees) < 3 && len(w.plain.nodes) > 0 && w.chance(10) {
				w.nominate(w.randomPod(), w.plain.nodes[w.IntN(len(w.plain.nodes))].Name)
			}
			if n, _ := w.s.placeOne(p); n != nil {
				w.plain.pods[p.Name], w.plain.at[p.Name] = p, n.Name
				continue
			}
			tried++
			x := &queued{pod: p, priority: *p.Spec.Priority}
			x.class, x.base = classKey(p, "")
			pl, no := w.s.planFor(w.s.profiles[Name], x)
			if no != nil {
				continue
			}
			a := &preemptor{plan: pl, pod: p, budgets: &w.s.budgets, now: epoch}
			got, none := a.choose()
			var best *loss
			for _, n := range w.plain.nodes {
				if !w.helps(p, n) {
					continue
				}
				if l := w.plain.cost(p, n); l != nil && (best == nil || l.compare(best) < 0) {
					best = l
				}
			}
			switch {
			case got == nil && best != nil:
				t.Fatalf("seed %d: pod %s could have %v go, but: %s", seed, p.Name, best.victims, none)
			case got != nil && best == nil:
				t.Fatalf("seed %d: pod %s has %d go on %s for nothing", seed, p.Name, len(got.victims), got.node.Name)
			case got == nil:
				continue
			}
			asked++
			have := &loss{broken: got.breaking, highest: got.highest, sum: got.sum, count: len(got.victims), started: got.started}
			if have.compare(best) != 0 {
				t.Fatalf("seed %d: pod %s takes %+v on %s, the least is %+v", seed, p.Name, have, got.node.Name, best)
			}
			for _, v := range got.victims {
				w.remove(v.Object().Name)
			}
			if !w.plain.may(p, w.plain.node(got.node.Name)) {
				t.Fatalf("seed %d: pod %s still must not go on %s", seed, p.Name, got.node.Name)
			}
			w.s.state.Place(p, got.node.Name, false)
			w.plain.pods[p.Name], w.plain.at[p.Name] = p, got.node.Name
		}
	})
	if *seed == 0 && asked < 100 {
		t.Errorf("only %d of %d pods that fitted nowhere had others go: the test proves little", asked, tried)
	}
}
