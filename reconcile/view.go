// Package reconcile is the engine that components which follow the API are
// made of: views of all objects of a kind, kept current by one watch, and a
// controller loop over them that owns queueing, retries and ordering.
package reconcile

import (
	"context"
	"iter"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sagong/client"
	"sagong/object"
)

// View holds all objects of one kind (or those a selector lets through), at one
// revision. Objects are shared and immutable. Handlers run in the order of
// changes, in the view's own goroutine, and must be quick. The revision advances
// only after they have run: who has waited for a revision knows that its changes
// were handled.
type View[T object.Object] struct {
	c         client.Client
	def       *object.Definition
	namespace string
	selector  client.ListOptions
	log       *slog.Logger

	mu       sync.RWMutex
	items    map[object.Key]T
	indexes  map[string]*index[T]
	revision object.Revision
	synced   bool
	changed  chan struct{} // closed and replaced at each advance of revision

	// order is held while changes are applied and announced, so that a handler
	// may read the view, and one added meanwhile neither misses nor doubles any.
	order    sync.Mutex
	handlers []func(old, new T)
}

type change[T object.Object] struct{ old, new T }

type index[T object.Object] struct {
	values func(T) []string
	keys   map[string]map[object.Key]T
}

// NewView makes a view of T's kind in all namespaces. Add indexes and handlers,
// then Run it.
func NewView[T object.Object](c client.Client, log *slog.Logger, o client.ListOptions) *View[T] {
	return &View[T]{
		c: c, def: object.Of[T](c.Scheme()), selector: o, log: log,
		items: map[object.Key]T{}, indexes: map[string]*index[T]{}, changed: make(chan struct{}),
	}
}

// Index makes By(name, value) answer in the time of its result. values must
// depend on nothing but the object. Call it before Run.
func (v *View[T]) Index(name string, values func(T) []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.indexes[name]; ok {
		return
	}
	ix := &index[T]{values: values, keys: map[string]map[object.Key]T{}}
	for k, o := range v.items {
		ix.add(k, o)
	}
	v.indexes[name] = ix
}

// OnChange calls f for every change: old is the zero T for an object that
// appears, new for one that is gone. Objects present already are announced as
// appearing before any later change. Safe at any time.
func (v *View[T]) OnChange(f func(old, new T)) {
	v.order.Lock()
	defer v.order.Unlock()
	var none T
	for _, o := range v.All() {
		f(none, o)
	}
	v.handlers = append(v.handlers, f)
}

// Get finds one object.
func (v *View[T]) Get(namespace, name string) (T, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	o, ok := v.items[object.Key{Namespace: namespace, Name: name}]
	return o, ok
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
	defer v.mu.RUnlock()
	all := make([]T, 0, len(v.items))
	for _, o := range v.items {
		all = append(all, o)
	}
	return all
}

// By returns the objects that an index holds under a value, in no order.
func (v *View[T]) By(name, value string) []T {
	v.mu.RLock()
	defer v.mu.RUnlock()
	ix := v.indexes[name]
	if ix == nil {
		panic("reconcile: view of " + v.def.Kind + " has no index " + name)
	}
	found := make([]T, 0, len(ix.keys[value]))
	for _, o := range ix.keys[value] {
		found = append(found, o)
	}
	return found
}

// Each calls f for every object until it returns false. The view is locked for
// reading meanwhile.
func (v *View[T]) Each() iter.Seq[T] {
	return func(yield func(T) bool) {
		v.mu.RLock()
		defer v.mu.RUnlock()
		for _, o := range v.items {
			if !yield(o) {
				return
			}
		}
	}
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

// WaitRevision waits until the view has seen everything up to a revision *of an
// object of its kind*.
func (v *View[T]) WaitRevision(ctx context.Context, r object.Revision) error {
	for {
		v.mu.RLock()
		done, changed := v.synced && v.revision >= r, v.changed
		v.mu.RUnlock()
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

// Run keeps the view current until ctx ends: a list, a watch from its revision,
// and again whenever the watch ends. It returns ctx's error.
func (v *View[T]) Run(ctx context.Context) error {
	backoff := 0 * time.Second
	for ctx.Err() == nil {
		err := v.follow(ctx, func() { backoff = 0 })
		if ctx.Err() != nil {
			break
		}
		if apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
			continue
		}
		if backoff = min(max(2*backoff, 50*time.Millisecond), 5*time.Second); backoff > time.Second {
			v.log.Warn("cannot follow the API, trying again", "kind", v.def.Kind, "err", err, "in", backoff)
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
	}
	return ctx.Err()
}

func (v *View[T]) follow(ctx context.Context, ok func()) error {
	list, err := v.c.List(ctx, v.def, v.namespace, v.selector)
	if err != nil {
		return err
	}
	v.replace(list)
	w, err := v.c.Watch(ctx, v.def, v.namespace, client.WatchOptions{
		LabelSelector: v.selector.LabelSelector, FieldSelector: v.selector.FieldSelector, From: list.Revision,
	})
	if err != nil {
		return err
	}
	defer w.Close()
	ok()
	for {
		events, err := w.Next(ctx)
		if err != nil {
			return err
		}
		v.apply(events)
	}
}

func (v *View[T]) replace(list client.List) {
	v.order.Lock()
	defer v.order.Unlock()
	var changes []change[T]
	fresh := make(map[object.Key]bool, len(list.Items))
	v.mu.Lock()
	for _, o := range list.Items {
		k := object.KeyOf(o)
		fresh[k] = true
		if old, had := v.items[k]; !had || old.GetResourceVersion() != o.GetResourceVersion() {
			changes = append(changes, v.set(k, o.(T)))
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
			changes = append(changes, v.set(object.KeyOf(e.Object), e.Object.(T)))
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
			h(c.old, c.new)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.synced = true
	v.revision = max(v.revision, r, 1)
	close(v.changed)
	v.changed = make(chan struct{})
}

func (v *View[T]) has(k object.Key) bool {
	_, ok := v.items[k]
	return ok
}

func (v *View[T]) set(k object.Key, o T) change[T] {
	c := change[T]{new: o}
	if v.has(k) {
		c.old = v.remove(k).old
	}
	v.items[k] = o
	for _, ix := range v.indexes {
		ix.add(k, o)
	}
	return c
}

func (v *View[T]) remove(k object.Key) change[T] {
	old := v.items[k]
	delete(v.items, k)
	for _, ix := range v.indexes {
		for _, val := range ix.values(old) {
			delete(ix.keys[val], k)
			if len(ix.keys[val]) == 0 {
				delete(ix.keys, val)
			}
		}
	}
	return change[T]{old: old}
}

func (ix *index[T]) add(k object.Key, o T) {
	for _, val := range ix.values(o) {
		m := ix.keys[val]
		if m == nil {
			m = map[object.Key]T{}
			ix.keys[val] = m
		}
		m[k] = o
	}
}
