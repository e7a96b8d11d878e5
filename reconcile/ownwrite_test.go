package reconcile_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

// held is a client whose watches of one kind deliver nothing until it is let go.
type held struct {
	client.Client
	kind string
	let  chan struct{}
}

func (h *held) Watch(ctx context.Context, d *object.Definition, namespace string, o client.WatchOptions) (client.Watch, error) {
	w, err := h.Client.Watch(ctx, d, namespace, o)
	if err != nil || d.Kind != h.kind {
		return w, err
	}
	return &heldWatch{w, h}, nil
}

type heldWatch struct {
	client.Watch
	h *held
}

func (w *heldWatch) Next(ctx context.Context) ([]client.Event, error) {
	events, err := w.Watch.Next(ctx)
	select {
	case <-w.h.let:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return events, err
}

// TestKeyWaitsForItsOwnWrites has a key asked for again, by another view, before the
// one of what it has written shows that: each way of writing holds it back.
func TestKeyWaitsForItsOwnWrites(t *testing.T) {
	key := object.Key{Name: "key"}
	for name, write := range map[string]func(context.Context, client.Client, *corev1.ConfigMap) error{
		"create": func(ctx context.Context, w client.Client, _ *corev1.ConfigMap) error {
			_, err := client.Create(ctx, w, configMap("another"))
			return err
		},
		"update": func(ctx context.Context, w client.Client, m *corev1.ConfigMap) error {
			m.Data = map[string]string{"a": "b"}
			_, err := client.Update(ctx, w, m)
			return err
		},
		"patch": func(ctx context.Context, w client.Client, m *corev1.ConfigMap) error {
			_, err := client.PatchOf[*corev1.ConfigMap](ctx, w, m.Namespace, m.Name, client.Patch{Type: "application/merge-patch+json", Data: []byte(`{"data":{"a":"b"}}`)})
			return err
		},
		"delete": func(ctx context.Context, w client.Client, m *corev1.ConfigMap) error {
			return client.Delete[*corev1.ConfigMap](ctx, w, m.Namespace, m.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(m.UID))})
		},
		"batch": func(ctx context.Context, w client.Client, m *corev1.ConfigMap) error {
			m.Data = map[string]string{"a": "b"}
			return w.Batch(ctx, []client.Write{{Op: client.OpUpdate, Definition: w.Scheme().ByObject(m), Object: m}})[0].Err
		},
		"batch of deletions": func(ctx context.Context, w client.Client, m *corev1.ConfigMap) error {
			return w.Batch(ctx, []client.Write{{Op: client.OpDelete, Definition: w.Scheme().ByObject(m), Object: m}})[0].Err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := fake.New(object.NewScheme(kinds.All()...), configMap("n"))
				defer c.Close()
				h := &held{c, "ConfigMap", make(chan struct{})}
				hub := reconcile.NewHub(h, quiet)
				maps, secrets := reconcile.ViewOf[*corev1.ConfigMap](hub), reconcile.ViewOf[*corev1.Secret](hub)
				var handled atomic.Int32
				stop := run(t, c, &testController{name: "writes", workers: 4,
					inputs: []reconcile.Input{
						reconcile.Reads(maps),
						reconcile.On(secrets, func(_, _ *corev1.Secret, enqueue func(object.Key)) { enqueue(key) }),
					},
					f: func(ctx context.Context, w client.Client, _ object.Key) (reconcile.Result, error) {
						if handled.Add(1) > 1 {
							return reconcile.Result{}, nil
						}
						m, _ := maps.Get("default", "n")
						return reconcile.Result{}, write(ctx, w, m.DeepCopy())
					}})
				defer stop()
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan struct{})
				go func() { defer close(done); _ = hub.Run(ctx) }()
				defer func() { cancel(); <-done }()
				ask := func(name string) {
					if _, err := client.Create(t.Context(), c, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				ask("a")
				if n := handled.Load(); n != 1 {
					t.Fatalf("handled %d times", n)
				}
				ask("b")
				if n := handled.Load(); n != 1 {
					t.Errorf("handled again, on a view that does not show what it wrote")
				}
				close(h.let)
				synctest.Wait()
				if n := handled.Load(); n != 2 {
					t.Errorf("handled %d times in the end", n)
				}
			})
		})
	}
}
