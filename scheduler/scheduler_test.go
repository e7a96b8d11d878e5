package scheduler

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
	"sagong/scheduler/configuration"
)

type noEvents struct{}

func (noEvents) Eventf(object.Object, string, string, string, ...any)                {}
func (noEvents) EventForField(object.Object, string, string, string, string, ...any) {}

// start runs a scheduler over a cluster in memory.
func start(t *testing.T, objs ...object.Object) (client.Client, *reconcile.View[*corev1.Pod]) {
	t.Helper()
	c, v, _ := startWith(t, nil, objs...)
	return c, v
}

// startWith is start with a configuration, nil for the defaults.
func startWith(t *testing.T, configured *configuration.Configuration, objs ...object.Object) (client.Client, *reconcile.View[*corev1.Pod], *told) {
	t.Helper()
	return startAs(t, Config{Configuration: configured}, kinds.All(), objs...)
}

// startAs is start with what is set of cfg, and other kinds.
func startAs(t *testing.T, cfg Config, kinds []*object.Definition, objs ...object.Object) (client.Client, *reconcile.View[*corev1.Pod], *told) {
	t.Helper()
	c := fake.New(object.NewScheme(kinds...), objs...)
	hub := reconcile.NewHub(c, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	events := &told{}
	cfg.Client, cfg.Hub, cfg.Recorder, cfg.Log = c, hub, func(string) client.Recorder { return events }, slog.New(slog.DiscardHandler)
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	view := reconcile.ViewOf[*corev1.Pod](hub)
	wg.Go(func() { _ = hub.Run(ctx) })
	wg.Go(func() { _ = s.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		c.Close()
	})
	return c, view, events
}

func create[T object.Object](t *testing.T, c client.Client, o T) {
	t.Helper()
	if _, err := client.Create(t.Context(), c, o); err != nil {
		t.Fatal(err)
	}
}

// until waits for the pods to satisfy a condition.
func until(t *testing.T, v *reconcile.View[*corev1.Pod], what string, ok func([]*corev1.Pod) bool) {
	t.Helper()
	done := make(chan struct{})
	var once sync.Once
	stop := v.OnChange(func(_, _ *corev1.Pod) {
		if ok(v.All()) {
			once.Do(func() { close(done) })
		}
	})
	defer stop()
	select {
	case <-done:
	case <-t.Context().Done():
		t.Fatal("never: " + what)
	}
}

func count(pods []*corev1.Pod, is func(*corev1.Pod) bool) int {
	n := 0
	for _, p := range pods {
		if is(p) {
			n++
		}
	}
	return n
}

func TestBindsWhatFitsAndSaysWhyTheRestDoesNot(t *testing.T) {
	objs := []object.Object{&corev1.Namespace{ObjectMeta: node("default").ObjectMeta}, node("n1")}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		objs = append(objs, testPod(name, requests("1", "1Gi")))
	}
	c, v := start(t, objs...)
	bound := func(p *corev1.Pod) bool { return p.Spec.NodeName == "n1" }
	refused := func(p *corev1.Pod) bool {
		x := conditionOf(p, corev1.PodScheduled)
		return p.Spec.NodeName == "" && x != nil && x.Reason == "Unschedulable" && x.Message == "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
	}
	until(t, v, "four bound, one refused", func(all []*corev1.Pod) bool { return count(all, bound) == 4 && count(all, refused) == 1 })
	// Room on another node wakes the pod that waits.
	if _, err := client.Create(t.Context(), c, node("n2")); err != nil {
		t.Fatal(err)
	}
	until(t, v, "the fifth on n2", func(all []*corev1.Pod) bool {
		return count(all, func(p *corev1.Pod) bool { return p.Spec.NodeName == "n2" }) == 1
	})
}

// A pod that wants to be beside another waits for it, and is tried when the
// scheduler itself has placed that one.
func TestPlacedPodWakesThoseThatWantToBeBesideIt(t *testing.T) {
	beside := func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "leader"}},
		}}}}
	}
	c, v := start(t, &corev1.Namespace{ObjectMeta: node("default").ObjectMeta}, node("n1"), testPod("follower", beside))
	until(t, v, "the follower waits", func(all []*corev1.Pod) bool {
		return count(all, func(p *corev1.Pod) bool { return conditionOf(p, corev1.PodScheduled) != nil }) == 1
	})
	if _, err := client.Create(t.Context(), c, testPod("leader", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "leader"} })); err != nil {
		t.Fatal(err)
	}
	until(t, v, "both on n1", func(all []*corev1.Pod) bool {
		return count(all, func(p *corev1.Pod) bool { return p.Spec.NodeName == "n1" }) == 2
	})
}
