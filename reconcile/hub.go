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

	mu        sync.Mutex
	views     map[reflect.Type]runner
	followers map[*following]bool // those to start with Run
	run       func(runner)        // nil until Run
}

type runner interface{ Run(context.Context) error }

// NewHub makes a hub without views.
func NewHub(c client.Client, log *slog.Logger) *Hub {
	return &Hub{c: c, log: log, views: map[reflect.Type]runner{}, followers: map[*following]bool{}}
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
	for f := range h.followers {
		start(f)
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

// following is a Follower of a kind that has no view.
type following struct {
	h    *Hub
	d    *object.Definition
	f    Follower
	ends context.Context
}

func (f *following) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(f.ends, cancel)()
	return Follow(ctx, f.h.c, f.d, "", client.ListOptions{}, f.h.log, f.f)
}

// Follow tells f about all objects of a kind, as long as the hub runs or until
// stop is called: for those who need less of a kind than a view keeps, or a kind
// known only at run time. One last call may be under way when stop returns.
func (h *Hub) Follow(d *object.Definition, f Follower) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &following{h: h, d: d, f: f, ends: ctx}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.run != nil {
		h.run(w)
		return cancel
	}
	h.followers[w] = true
	return cancel
}
