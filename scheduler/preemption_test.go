package scheduler

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// told keeps events for tests to read.
type told struct {
	mu   sync.Mutex
	list []string
}

func (e *told) Eventf(o object.Object, kind, reason, format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, fmt.Sprintf("%s %s %s: ", o.GetName(), kind, reason)+fmt.Sprintf(format, args...))
}

func (e *told) EventForField(object.Object, string, string, string, string, ...any) {}

func (e *told) has(text string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, line := range e.list {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}

// undertake deletes for good what is on its way out, as node agents do.
func undertake(t *testing.T, c client.Client, v *reconcile.View[*corev1.Pod]) {
	t.Helper()
	var wg sync.WaitGroup
	stop := v.OnChange(func(_, p *corev1.Pod) {
		if p != nil && p.DeletionTimestamp != nil && len(p.Finalizers) == 0 {
			wg.Go(func() {
				_ = client.Delete[*corev1.Pod](t.Context(), c, p.Namespace, p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
			})
		}
	})
	t.Cleanup(func() { stop(); wg.Wait() })
}

func onNode(name string, at string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return p.Name == name && p.Spec.NodeName == at }
}

func named(name string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return p.Name == name }
}

func space() *corev1.Namespace { return &corev1.Namespace{ObjectMeta: node("default").ObjectMeta} }

// held is a pod that has a node already.
func held(name, at string, change ...func(*corev1.Pod)) *corev1.Pod {
	return testPod(name, append(change, func(p *corev1.Pod) {
		p.Spec.NodeName = at
		p.Status.Phase = corev1.PodRunning
		if p.Status.StartTime == nil {
			p.Status.StartTime = &metav1.Time{Time: epoch}
		}
	})...)
}

// conformance: [sig-scheduling] SchedulerPreemption [Serial] validates basic preemption works [Conformance]
// conformance: [sig-scheduling] SchedulerPreemption [Serial] validates lower priority pod preemption by critical pod [Conformance]
func TestPreemptionOfTheLeastImportant(t *testing.T) {
	for name, high := range map[string]int32{"high": 1000, "critical": 2000000000} {
		t.Run(name, func(t *testing.T) {
			c, v, events := startWith(t, nil, space(), node("n1"), node("n2"),
				held("low", "n1", requests("3", "1Gi"), priority(1)), held("medium", "n2", requests("3", "1Gi"), priority(100)))
			undertake(t, c, v)
			create(t, c, testPod("newcomer", requests("2", "1Gi"), priority(high)))
			until(t, v, "newcomer on n1", func(all []*corev1.Pod) bool {
				return count(all, onNode("newcomer", "n1")) == 1 && count(all, named("low")) == 0 && count(all, onNode("medium", "n2")) == 1
			})
			p, err := client.Get[*corev1.Pod](t.Context(), c, "default", "newcomer")
			if err != nil {
				t.Fatal(err)
			}
			if p.Status.NominatedNodeName != "" {
				t.Errorf("bound, and still nominated to %s", p.Status.NominatedNodeName)
			}
			if want := fmt.Sprintf("low Normal Preempted: Preempted by pod %s on node n1", p.UID); !events.has(want) {
				t.Errorf("no event %q in %q", want, events.list)
			}
			if !events.has("newcomer Warning FailedScheduling: 0/2 nodes are available: 2 Insufficient cpu.") {
				t.Errorf("events %q", events.list)
			}
		})
	}
}

// conformance: [sig-scheduling] SchedulerPreemption [Serial] validates pod disruption condition is added to the preempted pod [Conformance]
func TestVictimSaysWhyItEnds(t *testing.T) {
	keep := func(p *corev1.Pod) { p.Finalizers = []string{"example.com/keep"} }
	c, v, _ := startWith(t, nil, space(), node("n1"), held("low", "n1", requests("4", "1Gi"), priority(1), keep))
	undertake(t, c, v)
	create(t, c, testPod("high", requests("4", "1Gi"), priority(10)))
	until(t, v, "low is on its way out and says why; high waits for its node", func(all []*corev1.Pod) bool {
		return count(all, func(p *corev1.Pod) bool {
			d := conditionOf(p, corev1.DisruptionTarget)
			return p.Name == "low" && p.DeletionTimestamp != nil && d != nil && d.Status == corev1.ConditionTrue && d.Reason == "PreemptionByScheduler" &&
				d.Message == "default-scheduler: preempting to accommodate a higher priority pod"
		}) == 1 && count(all, func(p *corev1.Pod) bool { return p.Name == "high" && p.Status.NominatedNodeName == "n1" }) == 1
	})
	// Tried again meanwhile, it asks nobody else.
	if _, err := client.PatchOf[*corev1.Node](t.Context(), c, "", "n1", client.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"labels":{"a":"b"}}}`)}); err != nil {
		t.Fatal(err)
	}
	until(t, v, "high waits for low", says("high", "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to a terminating pod on the nominated node."))
	low, err := client.Get[*corev1.Pod](t.Context(), c, "default", "low")
	if err != nil {
		t.Fatal(err)
	}
	low = low.DeepCopy()
	low.Finalizers = nil
	if _, err := client.Update(t.Context(), c, low); err != nil {
		t.Fatal(err)
	}
	until(t, v, "high on n1", func(all []*corev1.Pod) bool { return count(all, onNode("high", "n1")) == 1 })
}

// A pod that is never to preempt, and one that no victim could help, say so.
func TestNoPreemption(t *testing.T) {
	never := func(p *corev1.Pod) { p.Spec.PreemptionPolicy = new(corev1.PreemptNever) }
	for name, x := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"never": {testPod("p", requests("4", "1Gi"), priority(10), never), "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."},
		"too large": {testPod("p", requests("5", "1Gi"), priority(10)),
			"0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."},
		"all as important": {testPod("p", requests("4", "1Gi"), priority(5)),
			"0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod."},
		"not enough goes": {testPod("p", requests("4", "1Gi"), priority(6)),
			"0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. preemption: 0/3 nodes are available: 1 Insufficient cpu, 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."},
		"one node only": {testPod("p", requests("4", "1Gi"), priority(6), func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
				{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}}},
			}}}}
		}), "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: 0/3 nodes are available: 1 Insufficient cpu, 2 Preemption is not helpful for scheduling."},
	} {
		t.Run(name, func(t *testing.T) {
			c, v, events := startWith(t, nil, space(), node("n1"), node("n2"), node("n3", tainted),
				held("a", "n1", requests("1", "1Gi"), priority(5)), held("b", "n1", requests("1", "1Gi"), priority(6)), held("c", "n2", requests("1", "1Gi"), priority(6)))
			create(t, c, x.pod)
			until(t, v, x.want, func(all []*corev1.Pod) bool {
				return count(all, func(p *corev1.Pod) bool {
					y := conditionOf(p, corev1.PodScheduled)
					if p.Name == "p" && y != nil && y.Message != x.want {
						t.Errorf("got  %s\nwant %s", y.Message, x.want)
					}
					return p.Name == "p" && y != nil && y.Reason == "Unschedulable"
				}) == 1
			})
			if !events.has("FailedScheduling: " + x.want) {
				t.Errorf("events %q", events.list)
			}
			if n := count(v.All(), func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil }); n != 0 {
				t.Errorf("%d pods told to go", n)
			}
		})
	}
}

// Where all else is equal, the pods whose budget allows it go.
func TestPreemptionSparesBudgets(t *testing.T) {
	web := func(p *corev1.Pod) { p.Labels = map[string]string{"app": "web"} }
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "b"},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}
	c, v, _ := startWith(t, nil, space(), node("n1"), node("n2"), budget,
		held("kept", "n1", requests("4", "1Gi"), priority(1), web), held("spent", "n2", requests("4", "1Gi"), priority(2)))
	undertake(t, c, v)
	create(t, c, testPod("high", requests("4", "1Gi"), priority(10)))
	until(t, v, "high on n2", func(all []*corev1.Pod) bool { return count(all, onNode("high", "n2")) == 1 })
	// With no other way, the budget is broken: pre-emption respects it as far as
	// it can.
	create(t, c, testPod("higher", requests("4", "1Gi"), priority(10)))
	until(t, v, "higher on n1", func(all []*corev1.Pod) bool { return count(all, onNode("higher", "n1")) == 1 })
}

// The room that a victim leaves is not taken by another before its preemptor
// has it.
func TestNominatedRoomIsLeftAlone(t *testing.T) {
	keep := func(p *corev1.Pod) { p.Finalizers = []string{"example.com/keep"} }
	c, v, _ := startWith(t, nil, space(), node("n1"),
		held("big", "n1", requests("2", "1Gi"), priority(1)), held("stuck", "n1", requests("2", "1Gi"), priority(1), keep))
	undertake(t, c, v)
	create(t, c, testPod("high", requests("4", "1Gi"), priority(10)))
	until(t, v, "big is gone, stuck is on its way", func(all []*corev1.Pod) bool {
		return count(all, named("big")) == 0 && count(all, func(p *corev1.Pod) bool { return p.Name == "high" && p.Status.NominatedNodeName == "n1" }) == 1
	})
	create(t, c, testPod("low", requests("1", "1Gi"), priority(2)))
	create(t, c, testPod("first", requests("1", "1Gi"), priority(20)))
	until(t, v, "low waits for the room that high was promised, one more important takes it", func(all []*corev1.Pod) bool {
		return count(all, onNode("first", "n1")) == 1 && count(all, func(p *corev1.Pod) bool {
			return p.Name == "low" && p.Spec.NodeName == "" && conditionOf(p, corev1.PodScheduled) != nil
		}) == 1
	})
	// When the one it was promised to is gone, low has it.
	if err := client.Delete[*corev1.Pod](t.Context(), c, "default", "high", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, v, "low on n1", func(all []*corev1.Pod) bool { return count(all, onNode("low", "n1")) == 1 })
}

// conformance: [sig-scheduling] SchedulerPreemption [Serial] PreemptionExecutionPath runs ReplicaSets to verify preemption running path [Conformance]
func TestLevelsOfPrioritiesPushOneAnotherOut(t *testing.T) {
	c, v, _ := startWith(t, nil, space(), node("n1", func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("100") }))
	undertake(t, c, v)
	at := func(level string) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool {
			return strings.HasPrefix(p.Name, level) && p.Spec.NodeName != "" && p.DeletionTimestamp == nil
		}
	}
	for i, level := range []struct {
		name string
		pods int
		cpu  string
	}{{"one", 5, "200m"}, {"two", 4, "300m"}, {"three", 4, "450m"}} {
		for k := range level.pods {
			create(t, c, testPod(fmt.Sprint(level.name, k), requests(level.cpu, "1Mi"), priority(int32(i+1))))
		}
		until(t, v, level.name, func(all []*corev1.Pod) bool { return count(all, at(level.name)) == level.pods })
	}
	create(t, c, testPod("four", requests("500m", "1Mi"), priority(4)))
	until(t, v, "the fourth level runs, and of the first as many are gone as must be", func(all []*corev1.Pod) bool {
		return count(all, at("four")) == 1 && count(all, at("three")) == 4 && count(all, at("two")) == 4 && count(all, at("one")) == 2
	})
}

// A pod whose scheduler is not ours is left alone; one that is gated waits.
func TestOthersAndGatedPodsAreLeftAlone(t *testing.T) {
	gate := func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/wait"}} }
	c, v, _ := startWith(t, nil, space(), node("n1"), testPod("other", func(p *corev1.Pod) { p.Spec.SchedulerName = "another" }), testPod("gated", gate), testPod("free"))
	until(t, v, "free on n1", func(all []*corev1.Pod) bool { return count(all, onNode("free", "n1")) == 1 })
	for _, p := range v.All() {
		if p.Name != "free" && (p.Spec.NodeName != "" || conditionOf(p, corev1.PodScheduled) != nil && p.Name == "other") {
			t.Errorf("%s was touched: %v", p.Name, p.Status.Conditions)
		}
	}
	p, _ := v.Get("default", "gated")
	p = p.DeepCopy()
	p.Spec.SchedulingGates = nil
	if _, err := client.Update(t.Context(), c, p); err != nil {
		t.Fatal(err)
	}
	until(t, v, "gated on n1", func(all []*corev1.Pod) bool { return count(all, onNode("gated", "n1")) == 1 })
}

// A claim that one pod may use at a time is had from a less important pod.
func TestPreemptionForAClaimOfOnePod(t *testing.T) {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "one", UID: "c", Annotations: map[string]string{"pv.kubernetes.io/bind-completed": "yes"}}}
	claim.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
	claim.Spec.VolumeName, claim.Status.Phase = "v", corev1.ClaimBound
	claim.Spec.StorageClassName = new("")
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v", UID: "v"}}
	volume.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: "one", UID: "c"}
	volume.Status.Phase = corev1.VolumeBound
	uses := func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "one"}}}}
	}
	c, v, _ := startWith(t, nil, space(), node("n1"), node("n2"), claim, volume, held("low", "n1", priority(1), uses))
	undertake(t, c, v)
	create(t, c, testPod("high", priority(10), uses))
	until(t, v, "high has the claim", func(all []*corev1.Pod) bool {
		return count(all, onNode("high", "n1")) == 1 && count(all, named("low")) == 0
	})
}
