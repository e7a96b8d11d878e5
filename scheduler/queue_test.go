package scheduler

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func names(batch []*queued) string {
	var out string
	for _, x := range batch {
		out += x.pod.Name + " "
	}
	return out
}

func priority(n int32) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.Priority = &n } }

func TestQueueTakesByPriorityThenAgeAClassAtATime(t *testing.T) {
	q := newQueue(time.Second, 10*time.Second)
	for i, p := range []*corev1.Pod{
		testPod("a1"), testPod("b1", requests("1", "1Gi")), testPod("a2"), testPod("urgent", priority(5)), testPod("a3"), testPod("b2", requests("1", "1Gi")),
	} {
		q.put(p, epoch.Add(time.Duration(i)*time.Second))
	}
	for _, want := range []string{"urgent ", "a1 a2 ", "b1 b2 ", "a3 ", ""} {
		limit := 10
		if want == "a1 a2 " {
			limit = 2
		}
		// What is left of a class waits its turn by age.
		if want == "b1 b2 " {
			q.remove("a3")
			q.put(testPod("a3"), epoch.Add(time.Minute))
		}
		if got := names(q.next(limit)); got != want {
			t.Fatalf("next gave %q, want %q", got, want)
		}
	}
	if len(q.classes) != 0 {
		t.Errorf("classes left: %d", len(q.classes))
	}
}

func TestBackoffDoublesToTenSeconds(t *testing.T) {
	q := newQueue(time.Second, 10*time.Second)
	now := epoch
	q.put(testPod("a"), now)
	for _, want := range []time.Duration{1, 2, 4, 8, 10, 10, 10} {
		x := q.next(1)[0]
		q.fail(x, plugins.NodeChanged, now)
		q.wake(plugins.PodGone, now, nil)
		if next := q.due(now); next != now.Add(patience) {
			t.Fatalf("a change that does not help moved the pod: due at %v", next)
		}
		q.wake(plugins.NodeChanged, now, nil)
		next := q.due(now)
		if next.Sub(now) != want*time.Second {
			t.Fatalf("backs off for %v, want %v", next.Sub(now), want*time.Second)
		}
		if now = next; !q.due(now).IsZero() || q.active.Len() != 1 {
			t.Fatal("not active when its back-off has ended")
		}
	}
}

func TestPatienceEnds(t *testing.T) {
	q := newQueue(time.Second, 10*time.Second)
	q.put(testPod("a"), epoch)
	q.fail(q.next(1)[0], 0, epoch)
	if q.due(epoch.Add(patience - 1)); q.active.Len() != 0 {
		t.Error("tried again too early")
	}
	if q.due(epoch.Add(patience)); q.active.Len() != 1 {
		t.Error("not tried again")
	}
}

func TestRefusedBindingIsTriedAgainWithTheNewestPod(t *testing.T) {
	q := newQueue(time.Second, 10*time.Second)
	q.put(testPod("a"), epoch)
	x := q.next(1)[0]
	changed := testPod("a", requests("1", "1Gi"))
	q.refresh(changed, epoch)
	if q.active.Len() != 0 {
		t.Fatal("a pod whose binding is under way became active")
	}
	q.retry(x, epoch)
	q.due(epoch.Add(time.Second))
	if got := q.next(1); len(got) != 1 || got[0].pod != changed {
		t.Fatalf("next gave %q", names(got))
	}
	q.refresh(testPod("unknown"), epoch)
	if len(q.pods) != 1 {
		t.Error("refreshing added a pod")
	}
}

func TestUpdateActivatesOnlyWhenDemandsChange(t *testing.T) {
	q := newQueue(time.Second, 10*time.Second)
	q.put(testPod("a"), epoch)
	q.fail(q.next(1)[0], 0, epoch)
	q.put(testPod("a", func(p *corev1.Pod) { p.Annotations = map[string]string{"x": "y"} }), epoch)
	if q.active.Len() != 0 {
		t.Error("an annotation made the pod active")
	}
	q.put(testPod("a", requests("1", "1Gi")), epoch)
	if q.active.Len() != 1 || len(q.waiting) != 0 || q.parked[unschedulable].Len() != 0 {
		t.Error("a pod that demands something else is not active")
	}
	q.remove("a")
	if q.active.Len()+len(q.pods)+len(q.classes) != 0 {
		t.Error("something is left of a removed pod")
	}
}

// Any order of calls leaves every pod in exactly one place.
func TestQueueKeepsEveryPodInOnePlace(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	q, now := newQueue(time.Second, 10*time.Second), epoch
	flying := map[*queued]bool{}
	for range 5000 {
		now = now.Add(time.Duration(r.IntN(2000)) * time.Millisecond)
		id := fmt.Sprint(r.IntN(20))
		switch r.IntN(6) {
		case 0, 1:
			q.put(testPod(id, requests(fmt.Sprint(1+r.IntN(3)), "1Gi"), priority(int32(r.IntN(2)))), now)
		case 2:
			delete(flying, q.pods[types.UID(id)])
			q.remove(types.UID(id))
		case 3:
			for _, x := range q.next(1 + r.IntN(5)) {
				flying[x] = true
			}
		case 4:
			for x := range flying {
				delete(flying, x)
				if r.IntN(2) == 0 {
					q.fail(x, plugins.PodGone, now)
				} else {
					q.retry(x, now)
				}
			}
		case 5:
			q.wake(plugins.PodGone, now, nil)
			q.due(now)
		}
		members := 0
		for _, m := range q.classes {
			members += m.live
		}
		parked := q.parked[unschedulable].Len() + q.parked[backingOff].Len() + q.parked[failing].Len()
		if len(q.pods) != q.active.Len()+parked+len(flying) || members != q.active.Len() {
			t.Fatalf("%d pods: %d active (%d in classes), %d parked, %d being bound", len(q.pods), q.active.Len(), members, parked, len(flying))
		}
	}
}

// Pods of one class get the same verdict of every filter on every node.
func TestPodsOfOneClassHaveEqualVerdicts(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	choose := func(f func(*corev1.Pod)) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			if r.IntN(2) == 0 {
				f(p)
			}
		}
	}
	s := state.New()
	s.SetNode(node("n1", tainted))
	s.SetNode(node("n2", func(n *corev1.Node) { n.Labels["zone"] = "a" }))
	s.SetNode(node("n3", cordoned))
	s.Place(testPod("held", requests("3", "1Gi"), hostPort(80)), "n2", false)
	verdicts, rules := map[string]string{}, bare(t, s).profiles[Name].rules
	for i := range 2000 {
		p := testPod(fmt.Sprint("p", i),
			choose(requests("2", "1Gi")), choose(hostPort(80)),
			choose(func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"zone": "a"} }),
			choose(func(p *corev1.Pod) {
				p.Spec.Tolerations = []corev1.Toleration{{Key: "gpu", Operator: corev1.TolerationOpExists}}
			}),
			choose(func(p *corev1.Pod) {
				p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists})
			}),
			choose(func(p *corev1.Pod) { p.Annotations = map[string]string{"of": "no matter"} }))
		c, err := plugins.NewClass(p)
		if err != nil {
			t.Fatal(err)
		}
		verdict := ""
		for _, n := range s.Nodes() {
			for _, x := range rules {
				if f, ok := x.(plugins.Filter); ok {
					verdict += fmt.Sprint(n.Name, x.Name(), f.Filter(c, n), ";")
				}
			}
		}
		key, _ := classKey(p, "")
		if before, ok := verdicts[key]; ok && before != verdict {
			t.Fatalf("one class, two verdicts:\n%s\n%s", before, verdict)
		}
		verdicts[key] = verdict
	}
	if len(verdicts) != 32 {
		t.Errorf("%d classes, want 32: annotations must not matter", len(verdicts))
	}
}
