package reconcile

import (
	"time"

	"sagong/client"
	"sagong/object"
)

// letGoAfter is how long a view holds an object that does not change, at least, if
// its client gives it again; at most twice as long.
const letGoAfter = 30 * time.Second

// aging is which slots of a view have objects to let go of.
type aging[T object.Object] struct {
	age         uint32     // from 1 on
	now, before []*slot[T] // that changed in this age, and in the one before
	armed       bool
}

// hold puts a version of an object into a slot. The view is locked.
func (v *View[T]) hold(s *slot[T], o T, kept client.Kept) {
	s.o, s.kept = o, kept
	if v.digest != nil {
		s.digest = v.digest(o)
	}
	if kept == nil || v.keeps == nil {
		s.kept = nil
		return
	}
	a := &v.aging
	if s.age != a.age {
		s.age = a.age
		a.now = append(a.now, s)
	}
	v.armLocked()
}

func (v *View[T]) armLocked() {
	if a := &v.aging; !a.armed && len(a.now)+len(a.before) > 0 {
		a.armed = true
		time.AfterFunc(letGoAfter, v.letGo)
	}
}

// Kept stands for the newest version of an object, for who holds on to very many
// and seldom looks at one; Recall gives it again. nil when the view holds the
// objects itself, or the object is gone.
func (v *View[T]) Kept(o T) client.Kept {
	if v.keeps == nil {
		return nil
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	if s := v.items[object.KeyOf(o)]; s != nil && v.of(s).GetUID() == o.GetUID() {
		return s.kept
	}
	return nil
}

// Recall is the object that Kept stands for.
func (v *View[T]) Recall(kept client.Kept) T { return v.keeps(kept).(T) }

// drop lets go of a slot's object. The view is locked.
func (v *View[T]) drop(s *slot[T]) {
	if s.kept != nil {
		var none T
		s.o, s.age = none, 0
	}
}

// letGo ends an age: the view lets go of what has not changed in it.
func (v *View[T]) letGo() {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := &v.aging
	for _, s := range a.before {
		if s.age != a.age {
			v.drop(s)
		}
	}
	a.before, a.now, a.armed = a.now, nil, false
	a.age++
	v.armLocked()
}
