package reconcile

import (
	"cmp"
	"context"
	"log/slog"
	"reflect"
	"slices"
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
	views     map[reflect.Type]*shared
	followers map[*following]bool // those to start with Run
	held      bool                // views start when they are needed, or with Release
	run       func(runner)        // nil until Run
}

type runner interface{ Run(context.Context) error }

// shared is a view of the hub.
type shared struct {
	view interface {
		runner
		Synced(context.Context) error
		Definition() *object.Definition
		isSynced() bool
	}
	needed, started bool
}

// NewHub makes a hub without views.
func NewHub(c client.Client, log *slog.Logger) *Hub {
	return &Hub{c: c, log: log, views: map[reflect.Type]*shared{}, followers: map[*following]bool{}}
}

// Client is the client that the hub's views read with.
func (h *Hub) Client() client.Client { return h.c }

// ViewOf returns the shared view of all objects of T's kind. The first call
// makes it; it runs as long as the hub does.
func ViewOf[T object.Object](h *Hub) *View[T] {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := reflect.TypeFor[T]()
	if s := h.views[t]; s != nil {
		return s.view.(*View[T])
	}
	v := NewView[T](h.c, h.log, client.ListOptions{})
	s := &shared{view: v}
	v.need = func() { h.start(s) }
	h.views[t] = s
	h.startLocked(s)
	return v
}

// start lets a view run from now on, or from Run on.
func (h *Hub) start(s *shared) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.needed = true
	h.startLocked(s)
}

func (h *Hub) startLocked(s *shared) {
	if h.run != nil && !s.started && (s.needed || !h.held) {
		s.started = true
		h.run(s.view)
	}
}

// Hold keeps views from starting until somebody needs them to answer a request
// (View.Need) or Release is called: while a server starts, its processors are
// there for what it cannot serve without. Call it before Run.
func (h *Hub) Hold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = true
}

// manyObjects is from when on views start one after another.
const manyObjects = 1000

// Release starts the views that are held: those of few objects at once, then
// those of many, the fewest first and each when the one before is complete, so
// that what follows small kinds need not wait for the large ones. count says how
// many objects there are of a kind. It returns when all views are complete, or
// with the error of ctx.
func (h *Hub) Release(ctx context.Context, count func(*object.Definition) int64) error {
	type sized struct {
		s *shared
		n int64
	}
	var all []sized
	h.mu.Lock()
	for _, s := range h.views {
		all = append(all, sized{s: s})
	}
	h.mu.Unlock()
	for i, x := range all {
		all[i].n = count(x.s.view.Definition())
	}
	slices.SortFunc(all, func(a, b sized) int { return cmp.Compare(a.n, b.n) })
	few := 0
	for ; few < len(all) && all[few].n < manyObjects; few++ {
		h.start(all[few].s)
	}
	for _, x := range all[few:] {
		h.start(x.s)
		if err := x.s.view.Synced(ctx); err != nil {
			return err
		}
	}
	for _, x := range all[:few] {
		if err := x.s.view.Synced(ctx); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = false
	for _, s := range h.views {
		h.startLocked(s)
	}
	return nil
}

// Incomplete are the kinds whose views are not complete yet.
func (h *Hub) Incomplete() []*object.Definition {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*object.Definition
	for _, s := range h.views {
		if !s.view.isSynced() {
			out = append(out, s.view.Definition())
		}
	}
	return out
}

// Run keeps all views current, those asked for later too, until ctx ends and
// every one has stopped.
func (h *Hub) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	start := func(v runner) { wg.Go(func() { _ = v.Run(ctx) }) }
	h.mu.Lock()
	h.run = start
	for _, s := range h.views {
		h.startLocked(s)
	}
	for f := range h.followers {
		start(f)
	}
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
