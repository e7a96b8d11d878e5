package quota

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"sagong/apiserver/resource"
	"sagong/object"
)

// charge is what one write has reserved. It lives until the views show the
// write, or until it has failed.
type charge struct {
	space   *space
	uid     types.UID
	measure measure
	obj     object.Object
	old     object.Object       // nil for a new object
	after   corev1.ResourceList // what the object uses then
	before  corev1.ResourceList // what it used
	done    object.Revision     // of the write, once it succeeded
	counter *counter            // of the kind, when only its number counts
	deltas  map[*account]corev1.ResourceList
}

// delta is what the charge adds to an account; nil when it is not concerned.
func (c *charge) delta(a *account) corev1.ResourceList {
	d, ok := c.deltas[a]
	if !ok {
		d = c.rise(a)
		if c.deltas == nil {
			c.deltas = map[*account]corev1.ResourceList{}
		}
		c.deltas[a] = d
	}
	return d
}

func (c *charge) rise(a *account) corev1.ResourceList {
	if !c.measure.inScopes(c.obj, a.scopes) {
		return nil
	}
	was := c.before
	if c.old != nil && !c.measure.inScopes(c.old, a.scopes) {
		was = nil
	}
	d := rise(c.after, was)
	maps.DeleteFunc(d, func(name corev1.ResourceName, _ kresource.Quantity) bool {
		_, limited := a.spec.Hard[name]
		return !limited
	})
	return d
}

func (c *charge) reserve(a *account, n int) { add(a.reserved, c.delta(a), n) }

// measureOf finds how a write uses quotas; false when it does not.
func (l *Ledger) measureOf(a *resource.Attributes) (measure, bool) {
	create, update := a.Operation == resource.Create, a.Operation == resource.Update
	d := a.Definition
	switch d.GR() {
	case podResource:
		return pods, create && a.Subresource == "" || update && a.Subresource == "resize"
	case serviceResource:
		return services, (create || update) && a.Subresource == ""
	case claimResource:
		return claims, (create || update) && a.Subresource == ""
	case deviceResource:
		return l.devices(), create && a.Subresource == ""
	}
	if !create || a.Subresource != "" || ignored(d) {
		return measure{}, false
	}
	return counting(d.GR()), true
}

// Validate refuses what a quota of the namespace has no room for, and reserves
// the room otherwise: all quotas or none.
func (l *Ledger) Validate(ctx context.Context, a *resource.Attributes) error {
	if a.Namespace == "" || a.Object == nil {
		return nil
	}
	if err := l.Synced(ctx); err != nil {
		return apierrors.NewServiceUnavailable("the quotas are not known yet")
	}
	s := l.space(a.Namespace)
	if s == nil && !l.limits(a.Definition.GR()) {
		return nil
	}
	m, ok := l.measureOf(a)
	if !ok {
		return nil
	}
	if err := l.counted(ctx); err != nil {
		return apierrors.NewServiceUnavailable("what the quotas limit is not counted yet")
	}
	if s == nil {
		o, ok := a.Object.(object.Object)
		if !ok {
			return nil
		}
		return l.covered(a, m, o, m.usage(o, l.now()), nil)
	}
	k, err := l.counters.synced(ctx, a.Definition.GR())
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("resource quota evaluation timed out"))
	}
	obj, ok := a.Object.(object.Object)
	if !ok {
		return nil
	}
	c := &charge{space: s, uid: obj.GetUID(), measure: m, obj: obj, counter: k}
	if a.Operation == resource.Update {
		if a.Old == nil {
			return refuse(a, "unable to get previous usage since prior version of object was not found")
		}
		c.old, c.uid = a.Old, a.Old.GetUID()
	}
	now := l.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	l.overdue(s, now)
	c.after = m.usage(obj, now)
	if c.old != nil {
		c.before = m.usage(c.old, now)
	}
	concerned, err := l.judge(s, c, a)
	if err != nil || len(concerned) == 0 || a.DryRun {
		return err
	}
	for _, at := range concerned {
		c.reserve(at, 1)
	}
	s.charges[c.uid] = append(s.charges[c.uid], c)
	l.mu.Lock()
	l.charges[a] = c
	l.mu.Unlock()
	return nil
}

// judge finds the accounts that a charge changes. s is locked.
func (l *Ledger) judge(s *space, c *charge, a *resource.Attributes) ([]*account, error) {
	var concerned []*account
	for _, at := range s.accounts {
		matched := false
		for name := range at.spec.Hard {
			matched = matched || c.measure.names(name)
		}
		if !matched || !c.measure.inScopes(c.obj, at.scopes) {
			continue
		}
		if p, ok := c.obj.(*corev1.Pod); ok {
			if missing := unstated(p, at.spec.Hard); missing != "" {
				return nil, refuse(a, "failed quota: %s: must specify %s", at.key.Name, missing)
			}
		}
		concerned = append(concerned, at)
	}
	if err := l.covered(a, c.measure, c.obj, c.after, concerned); err != nil {
		return nil, err
	}
	if len(concerned) == 0 {
		return nil, nil
	}
	if negative := below(c.after); len(negative) > 0 {
		return nil, refuse(a, "quota usage is negative for resource(s): %s", strings.Join(negative, ","))
	}
	changed := concerned[:0:0]
	for _, at := range concerned {
		delta := c.delta(at)
		maps.DeleteFunc(delta, func(name corev1.ResourceName, _ kresource.Quantity) bool {
			_, limited := at.spec.Hard[name]
			return !limited
		})
		if len(delta) == 0 {
			continue
		}
		over := exceeded(at, delta)
		if len(over) > 0 && l.forget(s) {
			over = exceeded(at, delta)
		}
		if len(over) > 0 {
			return nil, refuse(a, "exceeded quota: %s, requested: %s, used: %s, limited: %s", at.key.Name,
				text(only(delta, over)), text(only(at.taken(), over)), text(only(at.spec.Hard, over)))
		}
		changed = append(changed, at)
	}
	return changed, nil
}

// taken is what is used or reserved.
func (a *account) taken() corev1.ResourceList {
	l := clone(a.used)
	add(l, a.reserved, 1)
	return l
}

func exceeded(a *account, delta corev1.ResourceList) []corev1.ResourceName {
	var over []corev1.ResourceName
	for name, q := range delta {
		sum := a.used[name].DeepCopy()
		sum.Add(a.reserved[name])
		sum.Add(q)
		if sum.Cmp(a.spec.Hard[name]) > 0 {
			over = append(over, name)
		}
	}
	return over
}

func only(l corev1.ResourceList, names []corev1.ResourceName) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, n := range names {
		out[n] = l[n]
	}
	return out
}

func below(l corev1.ResourceList) []string {
	var names []string
	for name, q := range l {
		if q.Sign() < 0 {
			names = append(names, string(name))
		}
	}
	slices.Sort(names)
	return names
}

// AfterWrite implements resource.AfterWrite: a failed write gives back what it
// reserved; that of a successful one stays until the views show the object. The
// answer to a write of a quota waits until the quota is in force.
func (l *Ledger) AfterWrite(ctx context.Context, a *resource.Attributes, err error) {
	if q, ok := a.Object.(*corev1.ResourceQuota); ok && err == nil && !a.DryRun && a.Subresource == "" {
		wait, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_ = l.quotas.WaitRevision(wait, object.RevisionOf(q))
	}
	l.mu.Lock()
	c := l.charges[a]
	delete(l.charges, a)
	l.mu.Unlock()
	if c == nil {
		return
	}
	s := c.space
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !slices.Contains(s.charges[c.uid], c): // shown already
	case err != nil:
		s.drop(c)
	default:
		c.done = max(1, object.RevisionOf(c.obj))
	}
}

// drop gives back what a charge reserved. s is locked.
func (s *space) drop(c *charge) {
	for _, a := range s.accounts {
		c.reserve(a, -1)
	}
	if s.charges[c.uid] = slices.DeleteFunc(s.charges[c.uid], func(o *charge) bool { return o == c }); len(s.charges[c.uid]) == 0 {
		delete(s.charges, c.uid)
	}
}

// shown gives back the reservations for an object that the views now show with
// them; is is nil when the object is gone. s is locked.
func (s *space) shown(uid types.UID, is object.Object, after corev1.ResourceList) {
	for _, c := range slices.Clone(s.charges[uid]) {
		if is == nil || c.old == nil || c.done > 0 && object.RevisionOf(is) >= c.done || equal(c.after, after) {
			s.drop(c)
		}
	}
}

// forget drops reservations of writes that the views have passed without showing
// them: objects that were gone again before a view listed anew. s is locked.
func (l *Ledger) forget(s *space) (any bool) {
	for _, list := range s.charges {
		for _, c := range slices.Clone(list) {
			if c.done > 0 && c.done <= l.passed(c) {
				s.drop(c)
				any = true
			}
		}
	}
	return any
}

// passed is the revision up to which the view of a charge's kind has seen all.
func (l *Ledger) passed(c *charge) object.Revision {
	switch c.obj.(type) {
	case *corev1.Pod:
		return l.pods.Revision()
	case *corev1.Service:
		return l.services.Revision()
	case *corev1.PersistentVolumeClaim:
		return l.claims.Revision()
	case *resourcev1.ResourceClaim:
		return l.claimsOf.Revision()
	}
	if c.counter != nil {
		return object.Revision(c.counter.seen.Load())
	}
	return 0
}

func refuse(a *resource.Attributes, format string, args ...any) error {
	return apierrors.NewForbidden(a.Definition.GR(), a.Name, fmt.Errorf(format, args...))
}
