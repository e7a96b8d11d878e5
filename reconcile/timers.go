package reconcile

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// timers fires any number of delayed calls from one goroutine and one timer.
type timers struct {
	mu   sync.Mutex
	heap alarmHeap
	wake chan struct{} // one slot: the earliest alarm changed
}

// alarm is a delayed call. Its fields belong to timers.
type alarm struct {
	at    time.Time
	fire  func()
	index int // in the heap; -1 when not in it
}

func newTimers() *timers { return &timers{wake: make(chan struct{}, 1)} }

// set arms a (again, when it was armed) to call a.fire after d.
func (t *timers) set(a *alarm, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a.at = time.Now().Add(d)
	if a.index >= 0 {
		heap.Fix(&t.heap, a.index)
	} else {
		heap.Push(&t.heap, a)
	}
	if t.heap[0] == a {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// clear disarms a.
func (t *timers) clear(a *alarm) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.index >= 0 {
		heap.Remove(&t.heap, a.index)
	}
}

// armed says whether a waits to fire.
func (t *timers) armed(a *alarm) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return a.index >= 0
}

// run fires alarms until ctx ends.
func (t *timers) run(ctx context.Context) {
	clock := time.NewTimer(time.Hour)
	defer clock.Stop()
	for {
		due, next := t.due(time.Now())
		for _, fire := range due {
			fire()
		}
		clock.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		case <-clock.C:
		}
	}
}

// due takes out what is due and says how long until the next.
func (t *timers) due(now time.Time) (due []func(), next time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.heap) > 0 {
		if wait := t.heap[0].at.Sub(now); wait > 0 {
			return due, wait
		}
		due = append(due, heap.Pop(&t.heap).(*alarm).fire)
	}
	return due, time.Hour
}

type alarmHeap []*alarm

func (h alarmHeap) Len() int           { return len(h) }
func (h alarmHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h alarmHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *alarmHeap) Push(x any) {
	a := x.(*alarm)
	a.index = len(*h)
	*h = append(*h, a)
}

func (h *alarmHeap) Pop() any {
	last := len(*h) - 1
	a := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	a.index = -1
	return a
}
