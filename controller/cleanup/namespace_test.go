package cleanup

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	n := NewNamespace(hub).(*namespaceController)
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
