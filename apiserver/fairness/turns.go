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

	all    int         // turns, free and taken
	newest string      // the flow of the newest request
	other  time.Time   // when a request came of another flow than the one before it
	wake   *time.Timer // grants when a flow that pauses may go on
}

type turnFlow struct {
	key     string
	used    int
	waiting []*waiter
	since   time.Time // when it got its latest turn
	until   time.Time // it pauses, and gets none before
}

// longestTurn is how long those who have the turns can hold the others up. What
// still has one then waits for something without saying so, and nobody must wait
// for it in turn.
const longestTurn = time.Second

// contested is how long after the requests of two flows the server takes itself to
// be shared.
const contested = time.Second

// A flow of which backlog requests wait is a flood. While others ask too, it pauses
// after each turn for pause times as long: what its requests cost before and after
// their turns, and their clients on the same machine, would else take all that is
// left of the processors.
const backlog, pause = 8, 4

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
	now := time.Now()
	if key != t.newest {
		if t.newest != "" {
			t.other = now
		}
		t.newest = key
	}
	if t.free > 0 && len(f.waiting) == 0 && f.used < t.share(now) {
		t.free--
		f.used++
		f.since = now
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
	if now := time.Now(); len(f.waiting) >= backlog && now.Sub(t.other) <= contested {
		f.until = now.Add(pause * now.Sub(f.since))
	}
	t.tidy(f)
	t.free++
	t.grant()
}

// grant gives the free turns to those that wait, one flow after another.
func (t *turns) grant() {
	now := time.Now()
	share := t.share(now)
	for t.free > 0 {
		var soonest time.Duration // until a flow that could have a turn no longer pauses
		i := slices.IndexFunc(t.ring, func(f *turnFlow) bool {
			if f.used >= share {
				return false
			}
			left := f.until.Sub(now)
			if left > 0 && (soonest == 0 || left < soonest) {
				soonest = left
			}
			return left <= 0
		})
		if i < 0 {
			if soonest > 0 {
				t.grantIn(soonest)
			}
			return
		}
		next := t.ring[i]
		t.ring = slices.Delete(t.ring, i, i+1)
		w := next.waiting[0]
		if next.waiting = next.waiting[1:]; len(next.waiting) > 0 {
			t.ring = append(t.ring, next)
		}
		t.free--
		next.used++
		next.since = now
		close(w.granted)
	}
}

func (t *turns) grantIn(d time.Duration) {
	if t.wake != nil {
		t.wake.Reset(d)
		return
	}
	t.wake = time.AfterFunc(d, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.grant()
	})
}

// share is how many turns a flow may have at a time: all, or half a processor's
// while others ask too, whose next request must find a processor idle.
func (t *turns) share(now time.Time) int {
	if now.Sub(t.other) > contested {
		return t.all
	}
	return max(1, t.all/4)
}

func (t *turns) tidy(f *turnFlow) {
	if f.used == 0 && len(f.waiting) == 0 && t.flows[f.key] == f {
		delete(t.flows, f.key)
	}
}
