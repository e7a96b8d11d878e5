package controller_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// storm is what happens to the controllers' client: writes are lost before or
// after they were done, sometimes with the whole process; watches are late, each
// kind by a time of its own, deliver in parts and in doubles, and break off. What
// happens to an operation depends on the seed, on what it is about and on how
// often that came before (lateness: on the virtual time), and on nothing else: not
// on the order in which goroutines run.
type storm struct {
	seed uint64
	mu   sync.Mutex
	nth  map[string]uint64
	calm bool
}

// chance is true once in n for this occasion.
func (s *storm) chance(n uint64, occasion ...any) bool { return s.number(n, occasion...) == 0 }

func (s *storm) number(n uint64, occasion ...any) uint64 {
	text := fmt.Sprint(occasion...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calm {
		return n - 1
	}
	s.nth[text]++
	h := fnv.New64a()
	fmt.Fprint(h, s.seed, "/", text, "/", s.nth[text])
	return mixed(h.Sum64()) % n
}

func mixed(x uint64) uint64 {
	x ^= x >> 29
	x *= 0xbf58476d1ce4e5b9
	return x ^ x>>32
}

// late is by how much a process hears late of a kind at present: another time for
// each kind, so that what was written first may be heard of last. It stays below
// half of the minute after which a key is freed whatever the view shows; that of
// the nodes' signs of life below what makes them look dead, and that of the nodes
// themselves at times above the time after which their pods are given up.
func (s *storm) late(process int, kind string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calm {
		return 0
	}
	const spell = 20 * time.Second
	h := fnv.New64a()
	fmt.Fprint(h, s.seed, "/late/", process, kind, "/", time.Now().UnixNano()/int64(spell))
	x := mixed(h.Sum64())
	most := time.Duration(0)
	switch n := x % 8; {
	case n == 7 && kind == "Node":
		most = 50 * time.Second
	case n >= 5 && kind != "Lease" && kind != "Node":
		most = 25 * time.Second
	case n >= 2:
		most = 3 * time.Second
	default:
		return 0
	}
	return time.Duration(mixed(x) % uint64(most))
}

// pause is how long something takes that has no part in the storm.
func (s *storm) pause(most time.Duration, occasion ...any) time.Duration {
	h := fnv.New64a()
	fmt.Fprint(h, s.seed, "/pause/", fmt.Sprint(occasion...))
	return time.Duration(mixed(h.Sum64()) % uint64(most))
}

func (s *storm) abate() { s.mu.Lock(); s.calm = true; s.mu.Unlock() }

// stormy is a client in a storm. crash kills what uses it.
type stormy struct {
	client.Client
	s       *storm
	process int
	crash   context.CancelFunc
}

// follower is the client that views are kept current with: its lists are late too.
type follower struct{ *stormy }

func (c follower) List(ctx context.Context, d *object.Definition, ns string, o client.ListOptions) (client.List, error) {
	l, err := c.stormy.List(ctx, d, ns, o)
	if err == nil {
		err = wait(ctx, c.s.late(c.process, d.Kind))
	}
	return l, err
}

// wait lets virtual time pass.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// around does a write, or loses it, or loses its answer, or dies.
func (c *stormy) around(occasion string, do func()) error {
	switch n := c.s.number(60, occasion); {
	case n < 5: // lost on its way
		return errChaos
	case n < 6: // died before
		c.crash()
		return errChaos
	case n < 11: // the answer was lost
		do()
		return errChaos
	case n < 12: // died after
		do()
		c.crash()
		return errChaos
	}
	do()
	return nil
}

func about(verb string, d *object.Definition, o metav1.Object) string {
	name := o.GetGenerateName()
	if name == "" {
		name = o.GetName()
	}
	return verb + d.Kind + o.GetNamespace() + "/" + name
}

// Create also refuses, as admission does, what is to be in a namespace that goes.
func (c *stormy) Create(ctx context.Context, d *object.Definition, o object.Object) (made object.Object, err error) {
	if d.Namespaced {
		ns, err := client.Get[*corev1.Namespace](ctx, c.Client, "", o.GetNamespace())
		if err != nil {
			return nil, err
		}
		if ns.DeletionTimestamp != nil {
			return nil, apierrors.NewForbidden(schema.GroupResource{Group: d.Group, Resource: d.Resource}, o.GetName(), errors.New("its namespace is being terminated"))
		}
	}
	if lost := c.around(about("create", d, o), func() { made, err = c.Client.Create(ctx, d, o) }); lost != nil {
		return nil, lost
	}
	return made, err
}

func (c *stormy) Update(ctx context.Context, d *object.Definition, o object.Object, sub string) (made object.Object, err error) {
	if lost := c.around(about("update"+sub, d, o), func() { made, err = c.Client.Update(ctx, d, o, sub) }); lost != nil {
		return nil, lost
	}
	return made, err
}

func (c *stormy) Patch(ctx context.Context, d *object.Definition, ns, name string, p client.Patch) (made object.Object, err error) {
	if lost := c.around("patch"+d.Kind+ns+"/"+name, func() { made, err = c.Client.Patch(ctx, d, ns, name, p) }); lost != nil {
		return nil, lost
	}
	return made, err
}

func (c *stormy) Delete(ctx context.Context, d *object.Definition, ns, name string, o metav1.DeleteOptions) (err error) {
	if lost := c.around("delete"+d.Kind+ns+"/"+name, func() { err = c.Client.Delete(ctx, d, ns, name, o) }); lost != nil {
		return lost
	}
	return err
}

func (c *stormy) CreateSubresource(ctx context.Context, d *object.Definition, ns, name, sub string, body runtime.Object) (made runtime.Object, err error) {
	if lost := c.around("post"+d.Kind+sub+ns+"/"+name, func() { made, err = c.Client.CreateSubresource(ctx, d, ns, name, sub, body) }); lost != nil {
		return nil, lost
	}
	return made, err
}

// Batch does only the first part of some batches, as a crash in between would.
func (c *stormy) Batch(ctx context.Context, writes []client.Write) []client.Result {
	occasion := "batch"
	if len(writes) > 0 {
		occasion = about(fmt.Sprint("batch", writes[0].Op), writes[0].Definition, writes[0].Object)
	}
	n := len(writes)
	switch c.s.number(12, occasion) {
	case 0, 1:
		n = int(c.s.number(uint64(n)+1, occasion, "part"))
	case 2:
		n = int(c.s.number(uint64(n)+1, occasion, "part"))
		defer c.crash()
	}
	results := make([]client.Result, len(writes))
	copy(results, c.Client.Batch(ctx, writes[:n]))
	for i := range results {
		if i >= n || c.s.chance(10, occasion, "answer") {
			results[i] = client.Result{Err: errChaos}
		}
	}
	return results
}

func (c *stormy) Watch(ctx context.Context, d *object.Definition, ns string, o client.WatchOptions) (client.Watch, error) {
	if c.s.chance(15, "watch", d.Kind) {
		return nil, errChaos
	}
	w, err := c.Client.Watch(ctx, d, ns, o)
	if err != nil {
		return nil, err
	}
	return &stormyWatch{Watch: w, c: c, kind: d.Kind}, nil
}

type stormyWatch struct {
	client.Watch
	c    *stormy
	kind string
	rest []client.Event // come, not delivered yet
}

func (w *stormyWatch) Next(ctx context.Context) ([]client.Event, error) {
	switch w.c.s.number(40, "next", w.kind) {
	case 0:
		return nil, apierrors.NewResourceExpired("too old")
	case 1:
		return nil, errChaos
	}
	events := w.rest
	if len(events) == 0 {
		var err error
		if events, err = w.Watch.Next(ctx); err != nil {
			return nil, err
		}
		if err := wait(ctx, w.c.s.late(w.c.process, w.kind)); err != nil {
			return nil, err
		}
	} else if err := wait(ctx, time.Second); err != nil {
		return nil, err
	}
	n := len(events)
	if w.c.s.chance(4, "part", w.kind) {
		n = 1 + int(w.c.s.number(uint64(n), "parts", w.kind))
	}
	events, w.rest = events[:n:n], events[n:]
	if !w.c.s.chance(4, "double", w.kind) {
		return events, nil
	}
	var doubled []client.Event
	for _, e := range events {
		doubled = append(doubled, e, e)
	}
	return doubled, nil
}

// watched holds a controller to order: a key that has written revision R of a
// kind in view is handled again only when that view has reached R.
type watched struct {
	reconcile.Controller
	inputs []reconcile.Input
	fail   func(format string, args ...any)

	mu    sync.Mutex
	wrote map[object.Key]map[*object.Definition]mark
	busy  map[object.Key]bool
}

type mark struct {
	revision object.Revision
	at       time.Time
}

// watch wraps a controller, with the optional powers it has.
func watch(c reconcile.Controller, fail func(string, ...any)) reconcile.Controller {
	w := &watched{Controller: c, inputs: c.Inputs(), fail: fail, wrote: map[object.Key]map[*object.Definition]mark{}, busy: map[object.Key]bool{}}
	limit := reconcile.DefaultWorkers
	if l, ok := c.(reconcile.Workers); ok {
		limit = l.Workers()
	}
	if r, ok := c.(reconcile.Runner); ok {
		return &watchedRunner{watchedWorkers{w, limit}, r}
	}
	return &watchedWorkers{w, limit}
}

type watchedWorkers struct {
	*watched
	limit int
}

func (w *watchedWorkers) Workers() int { return w.limit }

type watchedRunner struct {
	watchedWorkers
	reconcile.Runner
}

func (w *watched) Inputs() []reconcile.Input { return w.inputs }

func (w *watched) Reconcile(ctx context.Context, c client.Client, key object.Key) (reconcile.Result, error) {
	w.mu.Lock()
	if w.busy[key] {
		w.fail("%s handles %s twice at a time", w.Name(), key)
	}
	w.busy[key] = true
	for _, in := range w.inputs {
		d, seen := in.Seen()
		// After a minute a key is freed whatever the view shows.
		if m, ok := w.wrote[key][d]; ok && seen < m.revision && time.Since(m.at) < time.Minute {
			w.fail("%s acts on %s by a view of %s at %s, older than its own write %s", w.Name(), key, d.Kind, seen, m.revision)
		}
	}
	w.mu.Unlock()
	n := &noting{Client: c, wrote: map[*object.Definition]object.Revision{}}
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.busy[key] = false
		for d, r := range n.wrote {
			if w.wrote[key] == nil {
				w.wrote[key] = map[*object.Definition]mark{}
			}
			w.wrote[key][d] = mark{r, time.Now()}
		}
	}()
	return w.Controller.Reconcile(ctx, n, key)
}

// noting notes the newest revision written of each kind.
type noting struct {
	client.Client
	mu    sync.Mutex
	wrote map[*object.Definition]object.Revision
}

func (n *noting) note(d *object.Definition, o object.Object, err error) {
	if err != nil || o == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wrote[d] = max(n.wrote[d], object.RevisionOf(o))
}

func (n *noting) Create(ctx context.Context, d *object.Definition, o object.Object) (object.Object, error) {
	made, err := n.Client.Create(ctx, d, o)
	n.note(d, made, err)
	return made, err
}

func (n *noting) Update(ctx context.Context, d *object.Definition, o object.Object, sub string) (object.Object, error) {
	made, err := n.Client.Update(ctx, d, o, sub)
	n.note(d, made, err)
	return made, err
}

func (n *noting) Patch(ctx context.Context, d *object.Definition, ns, name string, p client.Patch) (object.Object, error) {
	made, err := n.Client.Patch(ctx, d, ns, name, p)
	n.note(d, made, err)
	return made, err
}

func (n *noting) Batch(ctx context.Context, writes []client.Write) []client.Result {
	results := n.Client.Batch(ctx, writes)
	for i, r := range results {
		n.note(writes[i].Definition, r.Object, r.Err)
	}
	return results
}
