package apiserver

import (
	"sync"
	"time"
)

// roundParts is in how many parts a round goes, so that many who are woken in it
// are not all woken at once.
const roundParts = 16

// rounds wake watches that want bookmarks, each once a round. One timer serves all.
type rounds struct {
	every time.Duration // a round

	mu    sync.Mutex
	parts [roundParts]map[*round]struct{}
	count int // of all
	next  int // the part that the next one is put into
	now   int // the part that was woken last
	timer *time.Timer
}

type round struct{ wake func() }

// join has wake called in every round, until the result is called. It must not wait.
func (r *rounds) join(wake func()) (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := &round{wake}
	part := r.next
	r.next = (r.next + 1) % roundParts
	if r.parts[part] == nil {
		r.parts[part] = map[*round]struct{}{}
	}
	r.parts[part][one] = struct{}{}
	if r.count++; r.count == 1 {
		r.timer = time.AfterFunc(r.every/roundParts, r.wake)
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.parts[part], one)
		if r.count--; r.count == 0 {
			r.timer.Stop()
		}
	}
}

// wake wakes the next part.
func (r *rounds) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count == 0 {
		return
	}
	r.now = (r.now + 1) % roundParts
	for one := range r.parts[r.now] {
		one.wake()
	}
	r.timer.Reset(r.every / roundParts)
}
