package reconcile

import (
	"context"
	"errors"

	"sagong/client"
	"sagong/object"
)

// Digests are a view's objects as those see them who ask little of very many: of
// each object the view keeps a D that lies ready, when the object itself has to be
// made anew because nobody looked at it for long.
type Digests[T object.Object, D any] struct{ v *View[T] }

// DigestsOf has a view keep a D of each of its objects. A view has one kind of
// digest; of depends on nothing but the object. Call it before Run.
func DigestsOf[T object.Object, D any](v *View[T], of func(T) D) Digests[T, D] {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.digest == nil {
		v.digest = func(o T) any { d := of(o); return &d }
		for _, s := range v.items {
			s.digest = v.digest(v.of(s))
		}
	}
	return Digests[T, D]{v}
}

// Digested is one version of an object with its digest.
type Digested[T object.Object, D any] struct {
	Digest *D // shared, immutable
	v      *View[T]
	o      T
	kept   client.Kept // gives o where that is not set
}

// Object is the object whole.
func (d Digested[T, D]) Object() T {
	if d.kept != nil {
		return d.v.keeps(d.kept).(T)
	}
	return d.o
}

// Objects are the objects whole.
func Objects[T object.Object, D any](all []Digested[T, D]) []T {
	objects := make([]T, len(all))
	for i, d := range all {
		objects[i] = d.Object()
	}
	return objects
}

// By returns the objects that an index of the view holds under a value, in no
// order.
func (ds Digests[T, D]) By(name, value string) []Digested[T, D] {
	v := ds.v
	v.mu.RLock()
	defer v.mu.RUnlock()
	slots := v.index(name).slots[value]
	all := make([]Digested[T, D], 0, len(slots))
	for s := range slots {
		d := Digested[T, D]{Digest: s.digest.(*D), v: v, o: s.o}
		if s.gone() {
			d.kept = s.kept
		}
		all = append(all, d)
	}
	return all
}

// Claim is the function Claim, which looks only at objects that it changes.
func (ds Digests[T, D]) Claim(ctx context.Context, c client.Client, owner object.Object, matches func(*D) bool) ([]Digested[T, D], error) {
	all := ds.By(ownerIndex, string(owner.GetUID()))
	owned := all[:0]
	x := claiming{c: c, d: ds.v.Definition(), owner: owner}
	for _, o := range all {
		if matches(o.Digest) {
			owned = append(owned, o)
		} else {
			x.release(ctx, o.Object())
		}
	}
	for _, o := range ds.By(ownerIndex, orphansOf(owner.GetNamespace())) {
		if !matches(o.Digest) {
			continue
		}
		if adopted := x.adopt(ctx, o.Object()); adopted != nil {
			o := adopted.(T)
			owned = append(owned, Digested[T, D]{Digest: ds.v.digest(o).(*D), o: o})
		}
	}
	return owned, errors.Join(x.errs...)
}
