package resource

import (
	"sync"
	"sync/atomic"
	"time"

	"sagong/object"
	"sagong/store"
)

// There are so many pods that their typed objects are most of what a large server
// holds, and nobody looks at most of them for hours. Their records let go of an
// object that nobody asked for in a while, and make it anew of the stored bytes
// when somebody does (docs/decisions/packed-values.md).

// letGoAfter is how long an object stays that nobody asks for, at least; at most
// it is twice as long.
const letGoAfter = 30 * time.Second

// LetsGo says whether the typed objects of a kind come and go, so that readers in
// this process should hold what Item.Kept returns.
func (k *Kind) LetsGo() bool { return k.isPods }

// Kept is what Engine.Kept gives the object for, as Shared does: its record.
func (i Item) Kept() any { return i.rec }

// Kept is the object that Item.Kept stands for.
func (e *Engine) Kept(k *Kind, kept any) object.Object {
	o, err := e.item(k, kept.(*store.Record)).Shared()
	if err != nil {
		// The same bytes were read, or written, by this process before.
		panic("resource: a stored object cannot be read any more: " + err.Error())
	}
	return o
}

// EndAge has the records of a kind let go of the objects that nobody asked for since
// it was called last, or since they were made if that was later. Time calls it.
func (k *Kind) EndAge() { k.aging.turn() }

// aging is which records of a kind have typed objects to let go of.
type aging struct {
	age atomic.Uint32 // grows when it is time to look at them

	mu          sync.Mutex
	now, before []*store.Record // whose objects were made in this age, or earlier
	armed       bool
}

// note remembers a record whose object was just made.
func (a *aging) note(r *store.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now = append(a.now, r)
	a.armLocked()
}

func (a *aging) armLocked() {
	if !a.armed && len(a.now)+len(a.before) > 0 {
		a.armed = true
		time.AfterFunc(letGoAfter, a.turn)
	}
}

// turn ends an age: what nobody asked for in it is let go of.
func (a *aging) turn() {
	a.mu.Lock()
	a.armed = false
	ended := a.age.Add(1) - 1
	old := a.before
	a.before, a.now = a.now, nil
	a.mu.Unlock()
	left := old[:0]
	for _, r := range old {
		m, _ := r.Memo().(*memo)
		switch {
		case m == nil || m.obj == nil: // superseded
		case m.used.Load() >= ended || m.json.Load() != nil: // bounded with the JSON
			left = append(left, r)
		default:
			r.SetMemo(nil)
		}
	}
	clear(old[len(left):])
	a.mu.Lock()
	a.before = append(a.before, left...)
	a.armLocked()
	a.mu.Unlock()
}
