package quota

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// statusEvery is how long a status that changes all the time stays as it is, so
// that ten thousand pods do not cost ten thousand writes of it.
const statusEvery = 100 * time.Millisecond

// status is the controller that writes down what the ledger knows.
type status struct{ l *Ledger }

// Controller returns the controller that keeps the status of quotas.
func (l *Ledger) Controller() reconcile.Controller { return status{l} }

func (status) Name() string { return "resourcequota" }

func (c status) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.Self(c.l.quotas), reconcile.Reads(c.l.pods), reconcile.Reads(c.l.services), reconcile.Reads(c.l.claims)}
}

func (c status) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.l.quotas.Definition().GVK().GroupKind(), Field: "status"}}
}

// Run implements reconcile.Runner.
func (c status) Run(ctx context.Context, w client.Client, enqueue func(object.Key)) error {
	c.l.enqueue.Store(&enqueue)
	defer c.l.enqueue.Store(nil)
	for _, q := range c.l.quotas.All() {
		enqueue(object.KeyOf(q))
	}
	for {
		changed := w.Scheme().Changed()
		c.l.counters.served()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Reconcile writes one status.
func (c status) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	q, ok := c.l.quotas.Get(key.Namespace, key.Name)
	s := c.l.space(key.Namespace)
	if !ok || s == nil {
		return reconcile.Result{}, nil
	}
	now := c.l.now()
	known := c.l.counters.known(q.Spec.Hard)
	want, again, wait := c.l.status(s, key, known, now)
	if want == nil || wait > 0 {
		return reconcile.Result{After: wait}, nil
	}
	if equality.Semantic.DeepEqual(*want, q.Status) && q.Status.Hard != nil && q.Status.Used != nil {
		return reconcile.Result{After: again}, nil
	}
	next := *q
	next.Status = *want
	if _, err := client.UpdateStatus(ctx, w, &next); err != nil {
		return reconcile.Result{}, err
	}
	c.l.written(s, key, now)
	return reconcile.Result{After: again}, nil
}

// status is what a quota's should be, when it will change by time alone, and how
// long to wait before it is written again; nil for no quota.
func (l *Ledger) status(s *space, key object.Key, known map[corev1.ResourceName]bool, now time.Time) (want *corev1.ResourceQuotaStatus, again, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.named(key.Name)
	if a == nil {
		return nil, 0, 0
	}
	if since := now.Sub(a.wrote); since >= 0 && since < statusEvery {
		return nil, 0, statusEvery - since
	}
	if next := l.overdue(s, now); !next.IsZero() {
		again = next.Sub(now) + time.Millisecond
	}
	want = &corev1.ResourceQuotaStatus{Hard: clone(a.spec.Hard), Used: corev1.ResourceList{}}
	for name, q := range a.used {
		if known[name] {
			want.Used[name] = q.DeepCopy()
		}
	}
	return want, again, 0
}

func (l *Ledger) written(s *space, key object.Key, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.named(key.Name); a != nil {
		a.wrote = at
	}
}
