package cleanup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

// The end of the last pod of a namespace is told, that of others and of pods of
// other namespaces is not.
func TestLastPodOfANamespace(t *testing.T) {
	names := []string{"going", "other"}
	c := fake.New(object.NewScheme(kinds.All()...))
	defer c.Close()
	for _, ns := range names {
		if err := c.Seed(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			p := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprint("p", i)},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
			}
			if err := c.Seed(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	hub := reconcile.NewHub(c, slog.New(slog.DiscardHandler))
	n := NewNamespace(hub, nil).(*namespaceController)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = hub.Run(ctx) }()
	defer func() { cancel(); <-done }()
	if err := n.pods.Synced(ctx); err != nil {
		t.Fatal(err)
	}
	type end struct {
		key  object.Key
		last bool
	}
	ends := make(chan end, 6)
	defer n.pods.OnChange(func(old, new *corev1.Pod) {
		if new == nil {
			ends <- end{object.KeyOf(old), n.last(old.Namespace)}
		}
	})()
	n.await("going")
	zero := int64(0)
	for i := range 3 {
		for _, ns := range names {
			name := fmt.Sprint("p", i)
			if err := client.Delete[*corev1.Pod](ctx, c, ns, name, metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
				t.Fatal(err)
			}
			want := end{object.Key{Namespace: ns, Name: name}, ns == "going" && i == 2}
			if got := <-ends; got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		}
	}
}

// A namespace waits for what other servers keep in it, and says so.
func TestNamespaceWaitsForOthers(t *testing.T) {
	c := fake.New(object.NewScheme(kinds.All()...))
	defer c.Close()
	now := metav1.Now()
	if err := c.Seed(&corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "going", DeletionTimestamp: &now, Finalizers: []string{"example.com/held"}},
		Spec:       corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}},
	}); err != nil {
		t.Fatal(err)
	}
	left := Elsewhere{
		Counts: map[string]int{"flunders.example.com": 2}, Finalizers: map[string]int{"example.com/x": 1},
		Unknown: []schema.GroupVersion{{Group: "away.example.com", Version: "v1"}},
	}
	hub := reconcile.NewHub(c, slog.New(slog.DiscardHandler))
	n := NewNamespace(hub, func(context.Context, string) Elsewhere { return left }).(*namespaceController)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = hub.Run(ctx) }()
	defer func() { cancel(); <-done }()
	if err := errors.Join(n.pods.Synced(ctx), n.namespaces.Synced(ctx)); err != nil {
		t.Fatal(err)
	}
	changes := make(chan *corev1.Namespace, 10)
	defer n.namespaces.OnChange(func(_, new *corev1.Namespace) { changes <- new })()
	pass := func() (reconcile.Result, *corev1.Namespace) {
		t.Helper()
		r, err := n.Reconcile(ctx, c, object.Key{Name: "going"})
		if err != nil {
			t.Fatal(err)
		}
		ns, err := client.Get[*corev1.Namespace](ctx, c, "", "going")
		if err != nil {
			t.Fatal(err)
		}
		return r, ns
	}
	r, ns := pass()
	if r.After == 0 || len(ns.Spec.Finalizers) != 1 {
		t.Fatalf("it does not wait: %+v %v", r, ns.Spec.Finalizers)
	}
	for kind, want := range map[corev1.NamespaceConditionType]string{
		corev1.NamespaceDeletionDiscoveryFailure: "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: away.example.com/v1: stale GroupVersion discovery: away.example.com/v1",
		corev1.NamespaceContentRemaining:         "Some resources are remaining: flunders.example.com has 2 resource instances",
		corev1.NamespaceFinalizersRemaining:      "Some content in the namespace has finalizers remaining: example.com/x in 1 resource instances",
	} {
		if !slices.ContainsFunc(ns.Status.Conditions, func(c corev1.NamespaceCondition) bool {
			return c.Type == kind && c.Status == corev1.ConditionTrue && c.Message == want
		}) {
			t.Errorf("no condition %s %q in %+v", kind, want, ns.Status.Conditions)
		}
	}
	for (<-changes).ResourceVersion != ns.ResourceVersion { // until the controller sees what it wrote
	}
	left = Elsewhere{}
	if r, ns = pass(); r.After != 0 || len(ns.Spec.Finalizers) != 0 {
		t.Errorf("it waits still: %+v %v", r, ns.Spec.Finalizers)
	}
}
