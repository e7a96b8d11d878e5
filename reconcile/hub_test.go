package reconcile_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

// lists notes the kinds that are listed, and lets the lists of one wait.
type lists struct {
	client.Client
	mu   sync.Mutex
	done []string
	wait map[string]chan struct{}
}

func (l *lists) List(ctx context.Context, d *object.Definition, namespace string, o client.ListOptions) (client.List, error) {
	l.mu.Lock()
	l.done = append(l.done, d.Kind)
	wait := l.wait[d.Kind]
	l.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return client.List{}, ctx.Err()
		}
	}
	return l.Client.List(ctx, d, namespace, o)
}

func (l *lists) listed() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.done)
}

// A hub that holds its views starts those that are needed, and with Release the
// small ones at once and the large ones in turn.
func TestHold(t *testing.T) {
	f := fake.New(object.NewScheme(kinds.All()...))
	l := &lists{Client: f, wait: map[string]chan struct{}{"Node": make(chan struct{})}}
	h := reconcile.NewHub(l, quiet)
	h.Hold()
	secrets, pods, nodes, maps := reconcile.ViewOf[*corev1.Secret](h), reconcile.ViewOf[*corev1.Pod](h), reconcile.ViewOf[*corev1.Node](h), reconcile.ViewOf[*corev1.ConfigMap](h)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = h.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait(); f.Close() })

	if err := secrets.Need(ctx); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(l.listed()); got != "[Secret]" {
		t.Fatalf("listed %s when Secrets were needed", got)
	}
	if n := len(h.Incomplete()); n != 3 {
		t.Errorf("%d kinds are incomplete, want 3", n)
	}
	released := make(chan error, 1)
	go func() {
		released <- h.Release(ctx, func(d *object.Definition) int64 {
			return map[string]int64{"Pod": 100_000, "Node": 5000}[d.Kind]
		})
	}()
	if err := maps.Synced(ctx); err != nil {
		t.Fatal(err)
	}
	// The nodes come before the pods, which are more, and are not complete.
	if got := l.listed(); slices.Contains(got, "Pod") {
		t.Errorf("listed %v while the list of nodes was under way", got)
	}
	// Whoever needs the pods does not wait for the nodes.
	if err := pods.Need(ctx); err != nil {
		t.Fatal(err)
	}
	if nodes.Revision() != 0 {
		t.Error("the nodes are complete before their list has ended")
	}
	close(l.wait["Node"])
	if err := <-released; err != nil {
		t.Fatal(err)
	}
	if n := h.Incomplete(); len(n) != 0 {
		t.Errorf("%v incomplete after the release", n)
	}
	if err := reconcile.ViewOf[*corev1.Service](h).Synced(ctx); err != nil { // asked for later
		t.Fatal(err)
	}
}
