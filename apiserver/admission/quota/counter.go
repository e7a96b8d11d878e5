package quota

import (
	"context"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
)

// counters count the objects of the kinds that some quota limits by number. A
// counter keeps a number for each namespace and nothing of the objects.
type counters struct {
	ledger *Ledger
	mu     sync.Mutex
	all    map[schema.GroupResource]*counter
}

type counter struct {
	of      *counters
	gr      schema.GroupResource
	measure measure

	def    *object.Definition // nil while nobody serves the kind
	stop   func()
	life   *followed
	first  chan struct{} // closed when the kind is listed
	listed bool
	n      map[string]int64 // by namespace
	seen   atomic.Int64     // the revision up to which all is counted
}

func (c *counters) init(l *Ledger) {
	c.ledger, c.all = l, map[schema.GroupResource]*counter{}
}

// want makes sure that a kind is counted.
func (c *counters) want(gr schema.GroupResource) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all[gr] == nil {
		c.all[gr] = &counter{of: c, gr: gr, measure: counting(gr), first: make(chan struct{}), n: map[string]int64{}}
	}
	c.renew()
}

// renew follows the kinds as they are served now.
func (c *counters) renew() {
	var served map[schema.GroupResource]*object.Definition
	for _, k := range c.all {
		if k.def != nil && !k.def.Gone() {
			continue
		}
		if served == nil {
			served = map[schema.GroupResource]*object.Definition{}
			for _, d := range c.ledger.hub.Client().Scheme().All() {
				if !ignored(d) && d.Verbs == nil {
					served[d.GR()] = d
				}
			}
		}
		d := served[k.gr]
		if d == k.def {
			continue
		}
		if k.stop != nil {
			k.stop()
		}
		k.def, k.stop = d, nil
		if d == nil {
			k.recount(map[string]int64{})
			continue
		}
		k.life = &followed{k: k}
		k.stop = c.ledger.hub.Follow(d, k.life)
	}
}

// served tells the counters that kinds have come or gone.
func (c *counters) served() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renew()
}

// synced waits until a kind, if it is counted at all, was listed.
func (c *counters) synced(ctx context.Context, gr schema.GroupResource) (*counter, error) {
	c.mu.Lock()
	k := c.all[gr]
	if k != nil && k.def == nil {
		c.renew()
	}
	c.mu.Unlock()
	if k == nil {
		return nil, nil
	}
	select {
	case <-k.first:
		return k, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// still calls f while no counter changes.
func (c *counters) still(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// tally fills a fresh account. The counters are still.
func (c *counters) tally(a *account) {
	for name := range a.spec.Hard {
		gr, ok := counted(name)
		if !ok || len(a.scopes) > 0 {
			continue
		}
		if k := c.all[gr]; k != nil {
			q := a.used[name]
			q.Set(k.n[a.key.Namespace])
			a.used[name] = q
		}
	}
}

// known are the names of hard whose use can be told: of the kinds that are served.
func (c *counters) known(hard corev1.ResourceList) map[corev1.ResourceName]bool {
	known := map[corev1.ResourceName]bool{}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range hard {
		if gr, ok := counted(name); ok {
			k := c.all[gr]
			known[name] = k != nil && k.listed
			continue
		}
		known[name] = pods.names(name) || services.names(name) || claims.names(name) || deviceNames(name)
	}
	return known
}

// followed is one following of a kind; a later one of the same counter makes it
// void.
type followed struct{ k *counter }

// Replace implements reconcile.Follower.
func (f *followed) Replace(l client.List) {
	n := map[string]int64{}
	for _, o := range l.Items {
		n[o.GetNamespace()]++
	}
	c := f.k.of
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.k.life != f {
		return
	}
	f.k.recount(n)
	for _, o := range l.Items {
		f.k.shown(o.GetNamespace(), o.GetUID())
	}
	f.k.seen.Store(int64(l.Revision))
	if !f.k.listed {
		f.k.listed = true
		close(f.k.first)
	}
}

// Apply implements reconcile.Follower.
func (f *followed) Apply(events []client.Event) {
	c := f.k.of
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.k.life != f {
		return
	}
	for _, e := range events {
		switch e.Type {
		case client.Added:
			f.k.change(e.Object.GetNamespace(), 1)
			f.k.shown(e.Object.GetNamespace(), e.Object.GetUID())
		case client.Deleted:
			f.k.change(e.Object.GetNamespace(), -1)
			f.k.shown(e.Object.GetNamespace(), e.Object.GetUID())
		}
		f.k.seen.Store(int64(e.Revision))
	}
}

// recount replaces all numbers. c.mu is held.
func (k *counter) recount(n map[string]int64) {
	for ns := range k.n {
		if n[ns] == 0 {
			k.change(ns, -k.n[ns])
		}
	}
	for ns := range n {
		if by := n[ns] - k.n[ns]; by != 0 {
			k.change(ns, by)
		}
	}
	// Accounts may show now that nothing is there.
	for ns := range k.of.ledger.opened() {
		k.change(ns, 0)
	}
}

// change books that a namespace has more or fewer objects. c.mu is held.
func (k *counter) change(ns string, by int64) {
	if k.n[ns] += by; k.n[ns] == 0 {
		delete(k.n, ns)
	}
	l := k.of.ledger
	s := l.space(ns)
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.accounts {
		if len(a.scopes) > 0 {
			continue
		}
		for name, q := range a.used {
			if k.measure.names(name) {
				q.Set(k.n[ns])
				a.used[name] = q
				l.tell(a.key)
			}
		}
	}
}

func (k *counter) shown(ns string, uid types.UID) {
	if s := k.of.ledger.space(ns); s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.shown(uid, nil, nil)
	}
}

// opened are the namespaces that have quotas.
func (l *Ledger) opened() map[string]bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	names := make(map[string]bool, len(l.spaces))
	for ns := range l.spaces {
		names[ns] = true
	}
	return names
}
