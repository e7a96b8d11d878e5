package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
	"sagong/scheduler/configuration"
	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

// startGroups is start with groups served.
func startGroups(t *testing.T, objs ...object.Object) (client.Client, *reconcile.View[*corev1.Pod], *told) {
	t.Helper()
	return startAs(t, Config{Groups: true}, append(kinds.All(), kinds.Workloads()...), append(objs, space())...)
}

func inGroup(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.SchedulingGroup = &corev1.PodSchedulingGroup{PodGroupName: &name} }
}

// gang is a group of least pods or none, a basic one for zero.
func gang(name string, least int32, change ...func(*schedulingv1beta1.PodGroup)) *schedulingv1beta1.PodGroup {
	g := &schedulingv1beta1.PodGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name)}}
	if least > 0 {
		g.Spec.SchedulingPolicy.Gang = &schedulingv1beta1.GangSchedulingPolicy{MinCount: least}
	} else {
		g.Spec.SchedulingPolicy.Basic = &schedulingv1beta1.BasicSchedulingPolicy{}
	}
	for _, f := range change {
		f(g)
	}
	return g
}

func ofPriority(n int32) func(*schedulingv1beta1.PodGroup) {
	return func(g *schedulingv1beta1.PodGroup) { g.Spec.Priority = &n }
}

func endsWhole(g *schedulingv1beta1.PodGroup) {
	g.Spec.DisruptionMode = &schedulingv1beta1.DisruptionMode{All: &schedulingv1beta1.AllDisruptionMode{}}
}

func bound(p *corev1.Pod) bool { return p.Spec.NodeName != "" }

// member tells whether a pod is of a group.
func member(name string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return groupOf(p) == name }
}

func both(a, b func(*corev1.Pod) bool) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return a(p) && b(p) }
}

// untilGroup waits for a condition of a group.
func untilGroup(t *testing.T, c client.Client, name, kind string, ok func(metav1.Condition) bool) {
	t.Helper()
	v := reconcile.NewView[*schedulingv1beta1.PodGroup](c, slog.New(slog.DiscardHandler), client.ListOptions{})
	done, over := make(chan struct{}), sync.Once{}
	stop := v.OnChange(func(_, g *schedulingv1beta1.PodGroup) {
		if g == nil || g.Name != name {
			return
		}
		if have := meta.FindStatusCondition(g.Status.Conditions, kind); have != nil && ok(*have) {
			over.Do(func() { close(done) })
		}
	})
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wg.Go(func() { _ = v.Run(ctx) })
	select {
	case <-done:
	case <-t.Context().Done():
		t.Fatalf("group %s never has that %s", name, kind)
	}
}

// refused tells whether a pod says that it was not placed, and why.
func refused(why string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return says(p.Name, why)([]*corev1.Pod{p}) }
}

func reasoned(reason, message string) func(metav1.Condition) bool {
	return func(c metav1.Condition) bool { return c.Reason == reason && c.Message == message }
}

// Pods of a gang are not even tried before there are enough of them, and before
// their group is there.
func TestGangWaitsUntilThereAreEnough(t *testing.T) {
	c, v, events := startGroups(t, node("n1"))
	create(t, c, testPod("a", inGroup("g")))
	create(t, c, testPod("b", inGroup("g")))
	create(t, c, gang("g", 3))
	create(t, c, testPod("other"))
	until(t, v, "a pod of no group has its node", func(all []*corev1.Pod) bool { return count(all, onNode("other", "n1")) == 1 })
	if n := count(v.All(), both(member("g"), bound)); n != 0 {
		t.Errorf("%d pods of an incomplete gang are bound", n)
	}
	create(t, c, testPod("c", inGroup("g")))
	until(t, v, "all three are bound", func(all []*corev1.Pod) bool { return count(all, both(member("g"), bound)) == 3 })
	untilGroup(t, c, "g", schedulingv1beta1.PodGroupInitiallyScheduled, func(c metav1.Condition) bool {
		return c.Status == metav1.ConditionTrue && c.Reason == "Scheduled" && c.Message == ""
	})
	if events.has("FailedScheduling") {
		t.Errorf("waiting for others is no failure: %q", events.list)
	}
}

// A gang that has room for some of its pods gets none of it.
func TestGangIsPlacedWholeOrNotAtAll(t *testing.T) {
	c, v, _ := startGroups(t, node("n1"), gang("g", 3))
	for _, name := range []string{"a", "b", "c"} {
		create(t, c, testPod(name, inGroup("g"), requests("2", "1Gi")))
	}
	const lacks, none = "minCount (3) cannot be satisfied: 2 scheduled, 0 remaining", ", No preemption victims found for incoming preemptor"
	until(t, v, "two say what the gang lacks, one what it lacks itself", func(all []*corev1.Pod) bool {
		return count(all, refused(lacks+none)) == 2 && count(all, refused("0/1 nodes are available: 1 Insufficient cpu.")) == 1
	})
	untilGroup(t, c, "g", schedulingv1beta1.PodGroupInitiallyScheduled, func(c metav1.Condition) bool {
		return c.Status == metav1.ConditionFalse && reasoned("Unschedulable", lacks+none)(c)
	})
	create(t, c, node("n2"))
	until(t, v, "all have nodes", func(all []*corev1.Pod) bool { return count(all, both(member("g"), bound)) == 3 })
	untilGroup(t, c, "g", schedulingv1beta1.PodGroupInitiallyScheduled, func(c metav1.Condition) bool { return c.Status == metav1.ConditionTrue })
}

// Two gangs that each need most of the room do not keep one another from it.
func TestGangsDoNotHoldRoomAgainstOneAnother(t *testing.T) {
	c, v, _ := startGroups(t, node("n1"), node("n2"), gang("g", 4), gang("h", 4))
	for i := range 4 {
		for _, g := range []string{"g", "h"} {
			create(t, c, testPod(fmt.Sprint(g, i), inGroup(g), requests("2", "1Gi")))
		}
	}
	whole := func(all []*corev1.Pod) (first, second string) {
		for _, x := range [][2]string{{"g", "h"}, {"h", "g"}} {
			if count(all, both(member(x[0]), bound)) == 4 && count(all, both(member(x[1]), bound)) == 0 {
				return x[0], x[1]
			}
		}
		return "", ""
	}
	var first, second string
	until(t, v, "one gang is whole, the other has nothing", func(all []*corev1.Pod) bool {
		first, second = whole(all)
		return first != "" && count(all, func(p *corev1.Pod) bool { return groupOf(p) == second && conditionOf(p, corev1.PodScheduled) != nil }) == 4
	})
	for i := range 4 {
		if err := client.Delete[*corev1.Pod](t.Context(), c, "default", fmt.Sprint(first, i), metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
			t.Fatal(err)
		}
	}
	until(t, v, "the other follows", func(all []*corev1.Pod) bool { return count(all, both(member(second), bound)) == 4 })
}

// What a gang has beyond its least waits for room on its own; the gang counts as
// placed.
func TestMoreThanTheLeast(t *testing.T) {
	c, v, _ := startGroups(t, node("n1"), gang("g", 2))
	for _, name := range []string{"a", "b"} {
		create(t, c, testPod(name, inGroup("g"), requests("2", "1Gi")))
	}
	until(t, v, "the least is bound", func(all []*corev1.Pod) bool { return count(all, both(member("g"), bound)) == 2 })
	create(t, c, testPod("c", inGroup("g"), requests("2", "1Gi")))
	until(t, v, "the third waits", says("c", "0/1 nodes are available: 1 Insufficient cpu."))
	untilGroup(t, c, "g", schedulingv1beta1.PodGroupInitiallyScheduled, func(c metav1.Condition) bool { return c.Status == metav1.ConditionTrue })
	create(t, c, node("n2"))
	until(t, v, "it follows", func(all []*corev1.Pod) bool { return count(all, onNode("c", "n2")) == 1 })
}

func TestBasicGroupIsPlacedAsFarAsItGoes(t *testing.T) {
	c, v, _ := startGroups(t, node("n1"), gang("g", 0))
	for _, name := range []string{"a", "b", "c"} {
		create(t, c, testPod(name, inGroup("g"), requests("2", "1Gi")))
	}
	until(t, v, "two are bound, one is not", func(all []*corev1.Pod) bool {
		return count(all, both(member("g"), bound)) == 2 && count(all, func(p *corev1.Pod) bool { return !bound(p) && conditionOf(p, corev1.PodScheduled) != nil }) == 1
	})
}

// A gang that asks for less is tried again.
func TestLowerMinCount(t *testing.T) {
	c, v, _ := startGroups(t, node("n1"), gang("g", 3))
	for _, name := range []string{"a", "b", "c"} {
		create(t, c, testPod(name, inGroup("g"), requests("2", "1Gi")))
	}
	until(t, v, "it does not fit", func(all []*corev1.Pod) bool {
		return count(all, refused("0/1 nodes are available: 1 Insufficient cpu.")) == 1
	})
	if _, err := client.PatchOf[*schedulingv1beta1.PodGroup](t.Context(), c, "default", "g", client.Patch{Type: types.MergePatchType, Data: []byte(`{"spec":{"schedulingPolicy":{"gang":{"minCount":2}}}}`)}); err != nil {
		t.Fatal(err)
	}
	until(t, v, "two are bound", func(all []*corev1.Pod) bool { return count(all, both(member("g"), bound)) == 2 })
}

// Pods that contradict their group are not placed, and say so.
func TestGroupThatDisagrees(t *testing.T) {
	c, v, _ := startGroups(t, node("n1"), gang("g", 2, ofPriority(5)))
	create(t, c, testPod("a", inGroup("g"), priority(5)))
	create(t, c, testPod("b", inGroup("g"), priority(7)))
	const why = `all pods in a pod group hierarchy should have the same priority as the root pod group's priority, got 7 ("b") and 5 ("default/g")`
	for _, name := range []string{"a", "b"} {
		until(t, v, name+" says so", func(all []*corev1.Pod) bool {
			return count(all, func(p *corev1.Pod) bool {
				x := conditionOf(p, corev1.PodScheduled)
				return p.Name == name && x != nil && x.Reason == corev1.PodReasonSchedulerError && x.Message == why
			}) == 1
		})
	}
	untilGroup(t, c, "g", schedulingv1beta1.PodGroupInitiallyScheduled, reasoned(schedulingv1beta1.PodGroupReasonSchedulerError, why))
}

// A gang makes room for itself, for as many as it needs and no more.
func TestGangPreempts(t *testing.T) {
	c, v, events := startGroups(t, node("n1"), node("n2"), gang("g", 2, ofPriority(10)),
		held("low", "n1", requests("3", "1Gi"), priority(1)), held("lower", "n2", requests("3", "1Gi"), priority(0)), held("high", "n2", requests("1", "1Gi"), priority(20)),
		held("small", "n1", requests("1", "1Gi"), priority(2)))
	undertake(t, c, v)
	for _, name := range []string{"a", "b"} {
		create(t, c, testPod(name, inGroup("g"), requests("3", "1Gi"), priority(10)))
	}
	until(t, v, "the gang has the room of two", func(all []*corev1.Pod) bool {
		return count(all, both(member("g"), bound)) == 2 && count(all, named("low"))+count(all, named("lower")) == 0 &&
			count(all, onNode("high", "n2")) == 1 && count(all, onNode("small", "n1")) == 1
	})
	for _, want := range []string{"low Normal Preempted: Preempted by podgroup uid-g on node cluster", "lower Normal Preempted: Preempted by podgroup uid-g on node cluster"} {
		if !events.has(want) {
			t.Errorf("no event %q in %q", want, events.list)
		}
	}
	untilGroup(t, c, "g", schedulingv1beta1.PodGroupInitiallyScheduled, func(c metav1.Condition) bool { return c.Status == metav1.ConditionTrue })
}

// A gang whose pods never push others out says so.
func TestGangThatNeverPreempts(t *testing.T) {
	c, v, _ := startGroups(t, node("n1"), gang("g", 1, ofPriority(10)), held("low", "n1", requests("3", "1Gi"), priority(1)))
	create(t, c, testPod("a", inGroup("g"), requests("3", "1Gi"), priority(10), func(p *corev1.Pod) { p.Spec.PreemptionPolicy = new(corev1.PreemptNever) }))
	untilGroup(t, c, "g", schedulingv1beta1.PodGroupInitiallyScheduled, reasoned("Unschedulable", "minCount (1) cannot be satisfied: 0 scheduled, 0 remaining, not eligible due to preemptionPolicy=Never."))
	if count(v.All(), onNode("low", "n1")) != 1 {
		t.Error("it pushed one out")
	}
}

// A group that ends as a whole goes with its last pod when one has to, for a
// gang and for a pod alone.
func TestGroupEndsAsAWhole(t *testing.T) {
	for name, newcomer := range map[string]func(*corev1.Pod){"pod": func(*corev1.Pod) {}, "podgroup": inGroup("g")} {
		t.Run(name, func(t *testing.T) {
			keep := func(p *corev1.Pod) { p.Finalizers = []string{"example.com/keep"} }
			c, v, _ := startGroups(t, node("n1"), node("n2"), gang("whole", 2, endsWhole, ofPriority(1)), gang("g", 1, ofPriority(10)),
				held("w1", "n1", inGroup("whole"), requests("3", "1Gi"), priority(1), keep), held("w2", "n2", inGroup("whole"), requests("1", "1Gi"), priority(1), keep),
				held("rest", "n2", requests("2", "1Gi"), priority(20)))
			create(t, c, testPod("newcomer", requests("2", "1Gi"), priority(10), newcomer))
			until(t, v, "both of the group are told to go", func(all []*corev1.Pod) bool {
				return count(all, func(p *corev1.Pod) bool {
					x := conditionOf(p, corev1.DisruptionTarget)
					return groupOf(p) == "whole" && p.DeletionTimestamp != nil && x != nil && x.Message == Name+": preempting to accommodate a higher priority "+name
				}) == 2
			})
			untilGroup(t, c, "whole", schedulingv1beta1.DisruptionTarget, reasoned("PreemptionByScheduler", Name+": preempting to accommodate a higher priority "+name))
		})
	}
}

// What a node says no to is taken back, and the gang tried again.
func TestRefusedBindingOfAGang(t *testing.T) {
	s := bareGroups(t)
	s.nodeChanged(nil, node("n1"))
	s.groupChanged(nil, gang("g", 2))
	for _, name := range []string{"a", "b"} {
		s.podChanged(nil, testPod(name, inGroup("g")))
	}
	if !s.placeBatch(t.Context()) {
		t.Fatal("nothing to place")
	}
	work := <-s.writes
	if len(work) != 2 {
		t.Fatalf("%d bindings in the batch", len(work))
	}
	for _, w := range work {
		s.unbind(w, fmt.Errorf("refused"))
	}
	g := s.groups[types.NamespacedName{Namespace: "default", Name: "g"}]
	if g.count[isWaiting] != 2 || g.entry.place != backingOff || s.state.Pod("a") != nil {
		t.Fatalf("%d wait, the entry is at %d", g.count[isWaiting], g.entry.place)
	}
	s.queue.due(epoch.Add(patience))
	<-s.writes // the group's status
	if !s.placeBatch(t.Context()) || len(<-s.writes) != 2 {
		t.Error("it was not tried again")
	}
}

// bareGroups is bare with groups served.
func bareGroups(t testing.TB) *Scheduler {
	s := bare(t, state.New())
	p, err := newProfile(&configuration.Default().Profiles[0], plugins.Share(plugins.Deps{Groups: true}))
	if err != nil {
		t.Fatal(err)
	}
	s.profiles[p.name] = p
	s.groups, s.gated = map[types.NamespacedName]*podGroup{}, map[types.UID]struct{}{}
	s.cfg.Log = slog.New(slog.DiscardHandler)
	return s
}
