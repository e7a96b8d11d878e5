package reconcile

import (
	"context"
	"log/slog"
	"reflect"
	"sync"

	"sagong/client"
	"sagong/object"
)

// Hub shares views: one watch and one index of a kind in a process, however
// many components read it.
type Hub struct {
	c   client.Client
	log *slog.Logger

	mu    sync.Mutex
	views map[reflect.Type]runner
	run   func(runner) // nil until Run
}

type runner interface{ Run(context.Context) error }

// NewHub makes a hub without views.
func NewHub(c client.Client, log *slog.Logger) *Hub {
	return &Hub{c: c, log: log, views: map[reflect.Type]runner{}}
}

// Client is the client that the hub's views read with.
func (h *Hub) Client() client.Client { return h.c }

// ViewOf returns the shared view of all objects of T's kind. The first call
// makes it; it runs as long as the hub does.
func ViewOf[T object.Object](h *Hub) *View[T] {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := reflect.TypeFor[T]()
	if v, ok := h.views[t]; ok {
		return v.(*View[T])
	}
	v := NewView[T](h.c, h.log, client.ListOptions{})
	h.views[t] = v
	if h.run != nil {
		h.run(v)
	}
	return v
}

// Run keeps all views current, those asked for later too, until ctx ends and
// every one has stopped.
func (h *Hub) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	start := func(v runner) { wg.Go(func() { _ = v.Run(ctx) }) }
	h.mu.Lock()
	for _, v := range h.views {
		start(v)
	}
	h.run = start
	h.mu.Unlock()
	<-ctx.Done()
	h.mu.Lock()
	h.run = func(runner) {}
	h.mu.Unlock()
	wg.Wait()
	return ctx.Err()
}
