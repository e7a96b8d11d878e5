// Package quota enforces ResourceQuotas and keeps their status. One ledger in
// memory holds what every quota's objects use, by the changes of the views, and
// what writes under way have reserved. Admission decides by it without writing
// anything; a controller writes the status behind.
package quota

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	limits "k8s.io/apiserver/pkg/admission/plugin/resourcequota/apis/resourcequota"

	"sagong/apiserver/resource"
	"sagong/object"
	"sagong/reconcile"
)

// Ledger is the rule ResourceQuota and the source of its controller.
//
// Locks are taken in this order: the views' own, counters, then one space.
type Ledger struct {
	hub      *reconcile.Hub
	now      func() time.Time
	quotas   *reconcile.View[*corev1.ResourceQuota]
	pods     *reconcile.View[*corev1.Pod]
	services *reconcile.View[*corev1.Service]
	claims   *reconcile.View[*corev1.PersistentVolumeClaim]
	claimsOf *reconcile.View[*resourcev1.ResourceClaim] // of devices
	standing sync.Map                                   // by device class: the extended resource that it stands for
	counters counters
	limited  []limits.LimitedResource

	ready   atomic.Bool // all there was at the start is counted
	enqueue atomic.Pointer[func(object.Key)]

	mu      sync.RWMutex
	spaces  map[string]*space
	charges map[*resource.Attributes]*charge
}

// space is a namespace that has quotas.
type space struct {
	mu       sync.Mutex
	accounts []*account                        // by name
	charges  map[types.UID][]*charge           // of writes that the views do not show yet
	dying    map[types.UID]*dyingPod           // pods that are being deleted
	kept     map[types.UID]corev1.ResourceList // what was booked, of measures that say so
}

// account is one quota: what it allows, what is used, what is reserved.
type account struct {
	key      object.Key
	uid      types.UID
	spec     corev1.ResourceQuotaSpec
	scopes   []corev1.ScopedResourceSelectorRequirement
	used     corev1.ResourceList // by objects that the views show
	reserved corev1.ResourceList // by charges
	wrote    time.Time           // when the status was written last
}

// New makes a ledger over the hub's views. now is the clock.
func New(h *reconcile.Hub, now func() time.Time) *Ledger {
	l := &Ledger{
		hub: h, now: now,
		quotas: reconcile.ViewOf[*corev1.ResourceQuota](h), pods: reconcile.ViewOf[*corev1.Pod](h),
		services: reconcile.ViewOf[*corev1.Service](h), claims: reconcile.ViewOf[*corev1.PersistentVolumeClaim](h),
		claimsOf: reconcile.ViewOf[*resourcev1.ResourceClaim](h),
		spaces:   map[string]*space{}, charges: map[*resource.Attributes]*charge{},
	}
	l.counters.init(l)
	l.pods.Index("namespace", func(p *corev1.Pod) []string { return []string{p.Namespace} })
	l.services.Index("namespace", func(s *corev1.Service) []string { return []string{s.Namespace} })
	l.claims.Index("namespace", func(c *corev1.PersistentVolumeClaim) []string { return []string{c.Namespace} })
	l.claimsOf.Index("namespace", func(c *resourcev1.ResourceClaim) []string { return []string{c.Namespace} })
	l.claimsOf.Index(byPod, podOf)
	reconcile.ViewOf[*resourcev1.DeviceClass](h).OnChange(l.classChanged)
	follow(l, l.pods, pods)
	follow(l, l.services, services)
	follow(l, l.claims, claims)
	follow(l, l.claimsOf, l.devices())
	l.quotas.OnChange(func(old, new *corev1.ResourceQuota) {
		if new == nil {
			l.close(old)
			return
		}
		l.open(new)
	})
	return l
}

// Name implements admission.Plugin.
func (*Ledger) Name() string { return "ResourceQuota" }

func (l *Ledger) space(namespace string) *space {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.spaces[namespace]
}

// Synced waits until the quotas there were at the start are known. What they
// limit may not be counted yet; who writes to their namespaces waits for that.
func (l *Ledger) Synced(ctx context.Context) error { return l.quotas.Need(ctx) }

// counted waits until all there was at the start is counted.
func (l *Ledger) counted(ctx context.Context) error {
	if l.ready.Load() {
		return nil
	}
	for _, wait := range []func(context.Context) error{l.quotas.Need, l.pods.Need, l.services.Need, l.claims.Need, l.claimsOf.Need, reconcile.ViewOf[*resourcev1.DeviceClass](l.hub).Need} {
		if err := wait(ctx); err != nil {
			return err
		}
	}
	l.ready.Store(true)
	return nil
}

// follow books the changes of a view.
func follow[T object.Object](l *Ledger, v *reconcile.View[T], m measure) {
	v.OnChange(func(old, new T) {
		var none T
		var was, is object.Object
		if any(old) != any(none) {
			was = old
		}
		if any(new) != any(none) {
			is = new
		}
		o := is
		if o == nil {
			o = was
		}
		if s := l.space(o.GetNamespace()); s != nil {
			l.book(s, m, was, is)
		}
	})
}

// book takes one change into account; was and is may each be nil.
func (l *Ledger) book(s *space, m measure, was, is object.Object) {
	now := l.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	var before, after corev1.ResourceList
	var uid types.UID
	if was != nil {
		uid, before = was.GetUID(), s.usage(m, was, now)
		delete(s.kept, uid)
	}
	if is != nil {
		uid = is.GetUID()
		s.watchOver(is, now)
		after = s.usage(m, is, now)
	} else {
		delete(s.dying, uid)
		delete(s.kept, uid)
	}
	for _, a := range s.accounts {
		changed := false
		if was != nil && m.inScopes(was, a.scopes) {
			add(a.used, before, -1)
			changed = true
		}
		if is != nil && m.inScopes(is, a.scopes) {
			add(a.used, after, 1)
			changed = true
		}
		if changed && !equal(before, after) {
			l.tell(a.key)
		}
	}
	s.shown(uid, is, after)
}

// usage measures an object as the accounts have it booked: a dying pod is
// charged until it was found to be overdue.
func (s *space) usage(m measure, o object.Object, now time.Time) corev1.ResourceList {
	if d := s.dying[o.GetUID()]; d != nil {
		if d.over {
			return m.usage(o, d.at.Add(1))
		}
		return m.usage(o, d.at)
	}
	if !m.kept {
		return m.usage(o, now)
	}
	l, ok := s.kept[o.GetUID()]
	if !ok {
		l = m.usage(o, now)
		s.kept[o.GetUID()] = l
	}
	return l
}

func (l *Ledger) tell(key object.Key) {
	if f := l.enqueue.Load(); f != nil {
		(*f)(key)
	}
}

// open begins or renews the account of a quota. When what it limits changed,
// all is counted anew, while the views hold still.
func (l *Ledger) open(q *corev1.ResourceQuota) {
	key := object.KeyOf(q)
	s := l.space(q.Namespace)
	if s == nil {
		s = &space{charges: map[types.UID][]*charge{}, dying: map[types.UID]*dyingPod{}, kept: map[types.UID]corev1.ResourceList{}}
	} else if a := s.find(key.Name); a != nil && a.uid == q.UID && equality.Semantic.DeepEqual(a.spec, q.Spec) {
		return
	}
	a := &account{
		key: key, uid: q.UID, spec: q.Spec, scopes: scopesOf(&q.Spec),
		used: zeros(q.Spec.Hard), reserved: zeros(q.Spec.Hard),
	}
	for name := range q.Spec.Hard {
		if gr, ok := counted(name); ok {
			l.counters.want(gr)
		}
	}
	l.pods.Still(func() {
		l.services.Still(func() {
			l.claims.Still(func() {
				l.claimsOf.Still(func() { l.counters.still(func() { l.count(s, a) }) })
			})
		})
	})
	l.tell(key)
}

// count fills a fresh account and puts it into its space.
func (l *Ledger) count(s *space, a *account) {
	ns := a.key.Namespace
	now := l.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range l.pods.By("namespace", ns) {
		if s.dying[p.UID] == nil {
			s.watchOver(p, now)
		}
		tally(s, a, pods, p, now)
	}
	for _, o := range l.services.By("namespace", ns) {
		tally(s, a, services, o, now)
	}
	for _, o := range l.claims.By("namespace", ns) {
		tally(s, a, claims, o, now)
	}
	for _, o := range l.claimsOf.By("namespace", ns) {
		tally(s, a, l.devices(), o, now)
	}
	l.counters.tally(a)
	for _, list := range s.charges {
		for _, c := range list {
			c.reserve(a, 1)
		}
	}
	s.accounts = slices.DeleteFunc(s.accounts, func(o *account) bool { return o.key == a.key })
	s.accounts = append(s.accounts, a)
	slices.SortFunc(s.accounts, func(x, y *account) int { return strings.Compare(x.key.Name, y.key.Name) })
	l.mu.Lock()
	l.spaces[ns] = s
	l.mu.Unlock()
}

func tally(s *space, a *account, m measure, o object.Object, now time.Time) {
	if m.inScopes(o, a.scopes) {
		add(a.used, s.usage(m, o, now), 1)
	}
}

func (s *space) find(name string) *account {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.named(name)
}

func (s *space) named(name string) *account {
	for _, a := range s.accounts {
		if a.key.Name == name {
			return a
		}
	}
	return nil
}

// close ends the account of a quota that is gone.
func (l *Ledger) close(q *corev1.ResourceQuota) {
	s := l.space(q.Namespace)
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts = slices.DeleteFunc(s.accounts, func(a *account) bool { return a.key.Name == q.Name })
	if len(s.accounts) == 0 {
		l.mu.Lock()
		delete(l.spaces, q.Namespace)
		l.mu.Unlock()
	}
}
