package cleanup

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

// TestTooManyFinishedPods keeps the limit: evicted pods go first, then the oldest.
func TestTooManyFinishedPods(t *testing.T) {
	c := fake.New(object.NewScheme(kinds.All()...), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	defer c.Close()
	hub := reconcile.NewHub(c, slog.New(slog.DiscardHandler))
	collector := NewPodGarbageCollector(hub).(*podCollector)
	collector.limit = 3
	start := time.Now().Add(-time.Hour)
	for i := range 7 {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("p", i), CreationTimestamp: metav1.NewTime(start.Add(time.Duration(i) * time.Minute))},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
			Status:     corev1.PodStatus{Phase: corev1.PodSucceeded},
		}
		if i == 6 {
			p.Status.Phase, p.Status.Reason = corev1.PodFailed, "Evicted"
		}
		if i == 0 {
			p.Status.Phase = corev1.PodRunning
		}
		if err := c.Seed(p); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = hub.Run(ctx) }()
	defer func() { cancel(); <-done }()
	e := reconcile.NewEngine(c, slog.New(slog.DiscardHandler), nil)
	if err := e.Add(collector); err != nil {
		t.Fatal(err)
	}
	ran := make(chan struct{})
	go func() { defer close(ran); _ = e.Run(ctx) }()
	defer func() { cancel(); <-ran }()
	pods := reconcile.ViewOf[*corev1.Pod](hub)
	wake := make(chan struct{}, 100)
	defer pods.OnChange(func(_, _ *corev1.Pod) { wake <- struct{}{} })()
	for pods.Len() != 4 {
		select {
		case <-wake:
		case <-time.After(time.Minute):
			t.Fatalf("%d pods", pods.Len())
		}
	}
	left, _, err := client.ListOf[*corev1.Pod](ctx, c, "default", client.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range left {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"p0", "p3", "p4", "p5"}) {
		t.Fatal(names)
	}
}

func TestNamespaceConditions(t *testing.T) {
	l := &leftovers{
		counts:     map[string]int{"pods.": 2, "deployments.apps": 1},
		finalizers: map[string]int{"example.com/hold": 2},
		failures:   []string{"cannot list widgets.example.com: no"},
	}
	conds := l.conditions()
	want := map[corev1.NamespaceConditionType]string{
		corev1.NamespaceDeletionDiscoveryFailure: "False ResourcesDiscovered All resources successfully discovered",
		corev1.NamespaceDeletionGVParsingFailure: "False ParsedGroupVersions All legacy kube types successfully parsed",
		corev1.NamespaceDeletionContentFailure:   "True ContentDeletionFailed Failed to delete all resource types, 1 remaining: cannot list widgets.example.com: no",
		corev1.NamespaceContentRemaining:         "True SomeResourcesRemain Some resources are remaining: deployments.apps has 1 resource instances, pods. has 2 resource instances",
		corev1.NamespaceFinalizersRemaining:      "True SomeFinalizersRemain Some content in the namespace has finalizers remaining: example.com/hold in 2 resource instances",
	}
	for _, c := range conds {
		if got := fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message); got != want[c.Type] {
			t.Errorf("%s: %s", c.Type, got)
		}
	}
	var s corev1.NamespaceStatus
	now := time.Now()
	if !setNamespaceCondition(&s, conds[0], now) || setNamespaceCondition(&s, conds[0], now.Add(time.Hour)) {
		t.Fatal("the same condition changed the status again")
	}
}
