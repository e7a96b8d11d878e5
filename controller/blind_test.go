package controller_test

import (
	"context"
	"sync"
	"testing"

	"sagong/client"
	"sagong/controller"
	"sagong/object"
	"sagong/reconcile"
)

// blinded is what views see a cluster with: nothing new of kinds that are held.
type blinded struct {
	client.Client
	mu   sync.Mutex
	held map[string]chan struct{}
}

// startBlinded is start, with views that can be kept from seeing what happens.
func startBlinded(t *testing.T, extra ...reconcile.Controller) (*cluster, *blinded) {
	t.Helper()
	b := &blinded{held: map[string]chan struct{}{}}
	return startSeen(t, controller.Deps{}, func(c client.Client) client.Client { b.Client = c; return b }, extra...), b
}

// hold keeps the views of kinds as they are until show is called, once.
func (b *blinded) hold(kinds ...string) (show func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	until := make(chan struct{})
	for _, k := range kinds {
		b.held[k] = until
	}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, k := range kinds {
			delete(b.held, k)
		}
		close(until)
	}
}

func (b *blinded) Watch(ctx context.Context, d *object.Definition, namespace string, o client.WatchOptions) (client.Watch, error) {
	w, err := b.Client.Watch(ctx, d, namespace, o)
	if err != nil {
		return nil, err
	}
	return &blindedWatch{w, b, d.Kind}, nil
}

type blindedWatch struct {
	client.Watch
	b    *blinded
	kind string
}

func (w *blindedWatch) Next(ctx context.Context) ([]client.Event, error) {
	events, err := w.Watch.Next(ctx)
	for err == nil {
		w.b.mu.Lock()
		until := w.b.held[w.kind]
		w.b.mu.Unlock()
		if until == nil {
			break
		}
		select {
		case <-until:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return events, err
}
