// Package reconcile is the engine that components which follow the API are
// made of: views of all objects of a kind, kept current by one watch, and a
// controller loop over them that owns queueing, retries and ordering.
package reconcile

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"sync"

	"sagong/client"
	"sagong/object"
)

// View holds all objects of one kind (or those a selector lets through), at one
// revision. Objects are shared and immutable; of kinds of which there are very
// many, the view holds but those that changed of late and asks its client for
// others (client.Keeper). Handlers run in the order of
// changes, in the view's own goroutine, and must be quick. The revision advances
// only after they have run: who has waited for a revision knows that its changes
// were handled.
type View[T object.Object] struct {
	c         client.Client
	def       *object.Definition
	namespace string
	selector  client.ListOptions
	log       *slog.Logger
	need      func()                          // starts a view that its hub holds back; nil without a hub
	keeps     func(client.Kept) object.Object // nil for who holds all objects

	mu       sync.RWMutex
	items    map[object.Key]*slot[T]
	indexes  map[string]*index[T]
	digest   func(T) any // nil when nobody asks for it
	revision object.Revision
	synced   bool
	changed  chan struct{} // closed at the next advance of revision; nil when nobody waits
	aging    aging[T]

	// order is held while changes are applied and announced, so that a handler
	// may read the view, and one added meanwhile neither misses nor doubles any.
	order    sync.Mutex
	handlers []*handler[T]
	advanced []*func()
}

type handler[T object.Object] struct{ f func(old, new T) }

type change[T object.Object] struct{ old, new T }

// slot holds the newest version of an object, for the view and all its indexes:
// a change that moves it in none of them costs one pointer.
type slot[T object.Object] struct {
	o      T
	kept   client.Kept // gives o when the view has let go of it; nil for one that stays
	digest any         // of o
	age    uint32      // of the view when it changed, 0 when o was let go of
}

// gone says whether the view has let go of a slot's object.
func (s *slot[T]) gone() bool { return s.age == 0 && s.kept != nil }

// of is a slot's object.
func (v *View[T]) of(s *slot[T]) T {
	if s.gone() {
		return v.keeps(s.kept).(T)
	}
	return s.o
}

type index[T object.Object] struct {
	values func(T) []string
	slots  map[string]map[*slot[T]]struct{}
}

// NewView makes a view of T's kind in all namespaces. Add indexes and handlers,
// then Run it.
func NewView[T object.Object](c client.Client, log *slog.Logger, o client.ListOptions) *View[T] {
	v := &View[T]{
		c: c, def: object.Of[T](c.Scheme()), selector: o, log: log,
		items: map[object.Key]*slot[T]{}, indexes: map[string]*index[T]{}, aging: aging[T]{age: 1},
	}
	if k, ok := c.(client.Keeper); ok {
		v.keeps = k.Keeps(v.def)
	}
	return v
}

// Index makes By(name, value) answer in the time of its result. values must
// depend on nothing but the object. Call it before Run.
func (v *View[T]) Index(name string, values func(T) []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.indexes[name]; ok {
		return
	}
	ix := &index[T]{values: values, slots: map[string]map[*slot[T]]struct{}{}}
	for _, s := range v.items {
		ix.add(s, v.of(s))
	}
	v.indexes[name] = ix
}

// OnChange calls f for every change: old is the zero T for an object that
// appears, new for one that is gone. An object that was deleted and made anew
// under the same name is gone first, then appears. Objects present already are
// announced as appearing before any later change. Safe at any time; the
// function returned ends the calls.
func (v *View[T]) OnChange(f func(old, new T)) (stop func()) {
	v.order.Lock()
	defer v.order.Unlock()
	var none T
	for _, o := range v.All() {
		f(none, o)
	}
	h := &handler[T]{f}
	v.handlers = append(v.handlers, h)
	return func() {
		v.order.Lock()
		defer v.order.Unlock()
		v.handlers = slices.DeleteFunc(slices.Clone(v.handlers), func(o *handler[T]) bool { return o == h })
	}
}

// onAdvance calls f after each advance of the revision, once the handlers have
// run.
func (v *View[T]) onAdvance(f func()) (stop func()) {
	v.order.Lock()
	defer v.order.Unlock()
	v.advanced = append(v.advanced, &f)
	return func() {
		v.order.Lock()
		defer v.order.Unlock()
		v.advanced = slices.DeleteFunc(slices.Clone(v.advanced), func(o *func()) bool { return o == &f })
	}
}

// find is Get without the type.
func (v *View[T]) find(k object.Key) (object.Object, bool) {
	o, ok := v.Get(k.Namespace, k.Name)
	return o, ok
}

// Get finds one object.
func (v *View[T]) Get(namespace, name string) (T, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if s := v.items[object.Key{Namespace: namespace, Name: name}]; s != nil {
		return v.of(s), true
	}
	var none T
	return none, false
}

// Len is the number of objects.
func (v *View[T]) Len() int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.items)
}

// All returns every object, in no order.
func (v *View[T]) All() []T {
	v.mu.RLock()
	g := gathered[T]{all: make([]T, 0, len(v.items))}
	for _, s := range v.items {
		g.add(s)
	}
	v.mu.RUnlock()
	return g.objects(v)
}

// gathered are objects of a view; those that it has let go of come once it is
// unlocked.
type gathered[T object.Object] struct {
	all   []T
	apart []apart
}

type apart struct {
	at   int
	kept client.Kept
}

func (g *gathered[T]) add(s *slot[T]) {
	if s.gone() {
		g.apart = append(g.apart, apart{len(g.all), s.kept})
	}
	g.all = append(g.all, s.o)
}

func (g *gathered[T]) objects(v *View[T]) []T {
	for _, x := range g.apart {
		g.all[x.at] = v.keeps(x.kept).(T)
	}
	return g.all
}

// By returns the objects that an index holds under a value, in no order.
func (v *View[T]) By(name, value string) []T {
	v.mu.RLock()
	slots := v.index(name).slots[value]
	g := gathered[T]{all: make([]T, 0, len(slots))}
	for s := range slots {
		g.add(s)
	}
	v.mu.RUnlock()
	return g.objects(v)
}

// Count is how many objects an index holds under a value.
func (v *View[T]) Count(name, value string) int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.index(name).slots[value])
}

func (v *View[T]) index(name string) *index[T] {
	ix := v.indexes[name]
	if ix == nil {
		panic("reconcile: view of " + v.def.Kind + " has no index " + name)
	}
	return ix
}

// Each calls f for every object until it returns false. The view is locked for
// reading meanwhile.
func (v *View[T]) Each() iter.Seq[T] {
	return func(yield func(T) bool) {
		v.mu.RLock()
		defer v.mu.RUnlock()
		for _, s := range v.items {
			if !yield(v.of(s)) {
				return
			}
		}
	}
}

// Still calls f while the view does not change and no handler runs: what f reads
// and what handlers are told later fit together without gap or overlap.
func (v *View[T]) Still(f func()) {
	v.order.Lock()
	defer v.order.Unlock()
	f()
}

// Revision is the store revision up to which the view has seen everything; 0
// before the first list.
func (v *View[T]) Revision() object.Revision {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if !v.synced {
		return 0
	}
	return v.revision
}

// Definition is the kind in view.
func (v *View[T]) Definition() *object.Definition { return v.def }

// Synced waits for the first list.
func (v *View[T]) Synced(ctx context.Context) error { return v.WaitRevision(ctx, 1) }

// Need is Synced for who answers requests by the view: one that its hub holds
// back (Hub.Hold) starts at once.
func (v *View[T]) Need(ctx context.Context) error {
	if v.isSynced() {
		return nil
	}
	if v.need != nil {
		v.need()
	}
	return v.Synced(ctx)
}

func (v *View[T]) isSynced() bool { return v.Revision() > 0 }

// WaitRevision waits until the view has seen everything up to a revision *of an
// object of its kind*.
func (v *View[T]) WaitRevision(ctx context.Context, r object.Revision) error {
	for {
		v.mu.Lock()
		done := v.synced && v.revision >= r
		if !done && v.changed == nil {
			v.changed = make(chan struct{})
		}
		changed := v.changed
		v.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// Run keeps the view current until ctx ends, as Follow does. It returns ctx's
// error.
func (v *View[T]) Run(ctx context.Context) error {
	return Follow(ctx, v.c, v.def, v.namespace, v.selector, v.log, viewFollower[T]{v})
}

// viewFollower keeps the methods of Follower out of View's own.
type viewFollower[T object.Object] struct{ v *View[T] }

func (f viewFollower[T]) Replace(l client.List)  { f.v.replace(l) }
func (f viewFollower[T]) Apply(e []client.Event) { f.v.apply(e) }

func (v *View[T]) replace(list client.List) {
	v.order.Lock()
	defer v.order.Unlock()
	var changes []change[T]
	fresh := make(map[object.Key]bool, len(list.Items))
	v.mu.Lock()
	for i, o := range list.Items {
		k := object.KeyOf(o)
		fresh[k] = true
		if s := v.items[k]; s == nil || v.of(s).GetResourceVersion() != o.GetResourceVersion() {
			var kept client.Kept
			if list.Kept != nil {
				kept = list.Kept[i]
			}
			changes = v.set(changes, k, o.(T), kept)
		}
	}
	for k := range v.items {
		if !fresh[k] {
			changes = append(changes, v.remove(k))
		}
	}
	v.mu.Unlock()
	v.announce(changes, list.Revision)
}

func (v *View[T]) apply(events []client.Event) {
	v.order.Lock()
	defer v.order.Unlock()
	var last object.Revision
	changes := make([]change[T], 0, len(events))
	v.mu.Lock()
	for _, e := range events {
		switch e.Type {
		case client.Added, client.Modified:
			changes = v.set(changes, object.KeyOf(e.Object), e.Object.(T), e.Kept)
		case client.Deleted:
			if k := object.KeyOf(e.Object); v.has(k) {
				changes = append(changes, v.remove(k))
			}
		}
		last = max(last, e.Revision)
	}
	v.mu.Unlock()
	v.announce(changes, last)
}

// announce runs the handlers, then lets the revision advance. order is held.
func (v *View[T]) announce(changes []change[T], r object.Revision) {
	for _, c := range changes {
		for _, h := range v.handlers {
			h.f(c.old, c.new)
		}
	}
	v.mu.Lock()
	v.synced = true
	v.revision = max(v.revision, r, 1)
	if v.changed != nil {
		close(v.changed)
		v.changed = nil
	}
	v.mu.Unlock()
	for _, f := range v.advanced {
		(*f)()
	}
}

func (v *View[T]) has(k object.Key) bool {
	_, ok := v.items[k]
	return ok
}

// set stores an object and adds what that changed.
func (v *View[T]) set(changes []change[T], k object.Key, o T, kept client.Kept) []change[T] {
	s := v.items[k]
	if s == nil {
		s = &slot[T]{}
		v.items[k] = s
		v.hold(s, o, kept)
		for _, ix := range v.indexes {
			ix.add(s, o)
		}
		return append(changes, change[T]{new: o})
	}
	old := v.of(s)
	for _, ix := range v.indexes {
		if !slices.Equal(ix.values(old), ix.values(o)) {
			ix.drop(s, old)
			ix.add(s, o)
		}
	}
	v.hold(s, o, kept)
	if old.GetUID() != o.GetUID() {
		return append(changes, change[T]{old: old}, change[T]{new: o})
	}
	return append(changes, change[T]{old, o})
}

func (v *View[T]) remove(k object.Key) change[T] {
	s := v.items[k]
	o := v.of(s)
	v.drop(s)
	delete(v.items, k)
	for _, ix := range v.indexes {
		ix.drop(s, o)
	}
	return change[T]{old: o}
}

func (ix *index[T]) add(s *slot[T], o T) {
	for _, val := range ix.values(o) {
		m := ix.slots[val]
		if m == nil {
			m = map[*slot[T]]struct{}{}
			ix.slots[val] = m
		}
		m[s] = struct{}{}
	}
}

func (ix *index[T]) drop(s *slot[T], o T) {
	for _, val := range ix.values(o) {
		delete(ix.slots[val], s)
		if len(ix.slots[val]) == 0 {
			delete(ix.slots, val)
		}
	}
}
