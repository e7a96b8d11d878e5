package fairness

import (
	"context"
	"slices"
	"sync"
	"time"
)

// turns are the few requests that may compute at the same time. Flows that wait
// get them one after another, whatever number of requests each has.
type turns struct {
	mu    sync.Mutex
	free  int
	flows map[string]*turnFlow
	ring  []*turnFlow // those that wait, in the order in which they are served
}

type turnFlow struct {
	key     string
	used    int
	waiting []*waiter
}

// longestTurn is how long those who have the turns can hold the others up. What
// still has one then waits for something without saying so, and nobody must wait
// for it in turn.
const longestTurn = time.Second

// take waits for a turn. It is nil when there was none for so long that the
// request goes on without; ok is false when ctx ends before.
func (t *turns) take(ctx context.Context, key string) (f *turnFlow, ok bool) {
	t.mu.Lock()
	f = t.flows[key]
	if f == nil {
		if t.flows == nil {
			t.flows = map[string]*turnFlow{}
		}
		f = &turnFlow{key: key}
		t.flows[key] = f
	}
	if t.free > 0 && len(t.ring) == 0 {
		t.free--
		f.used++
		t.mu.Unlock()
		return f, true
	}
	w := &waiter{granted: make(chan struct{})}
	if f.waiting = append(f.waiting, w); len(f.waiting) == 1 {
		t.ring = append(t.ring, f)
	}
	t.mu.Unlock()
	limit := time.NewTimer(longestTurn)
	defer limit.Stop()
	select {
	case <-w.granted:
		return f, true
	case <-limit.C:
		ok = true
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(f.waiting, w)
	if i < 0 {
		return f, true // granted at the last moment
	}
	if f.waiting = slices.Delete(f.waiting, i, i+1); len(f.waiting) == 0 {
		t.ring = slices.DeleteFunc(t.ring, func(other *turnFlow) bool { return other == f })
		t.tidy(f)
	}
	return nil, ok
}

func (t *turns) giveBack(f *turnFlow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.used--
	t.tidy(f)
	if len(t.ring) == 0 {
		t.free++
		return
	}
	next := t.ring[0]
	t.ring = t.ring[1:]
	w := next.waiting[0]
	if next.waiting = next.waiting[1:]; len(next.waiting) > 0 {
		t.ring = append(t.ring, next)
	}
	next.used++
	close(w.granted)
}

func (t *turns) tidy(f *turnFlow) {
	if f.used == 0 && len(f.waiting) == 0 && t.flows[f.key] == f {
		delete(t.flows, f.key)
	}
}
