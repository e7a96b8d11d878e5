// Package timing gives a component with very many deadlines one goroutine and
// one timer for all of them, and a queue of keys in which none is twice.
package timing

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Timers calls functions at given times, one timer for all. The functions run
// in the goroutine of Run and must be quick.
type Timers struct {
	mu   sync.Mutex
	heap alarms
	keys map[any]*alarm
	wake chan struct{}
}

type alarm struct {
	key   any
	at    time.Time
	fire  func()
	index int
}

// NewTimers returns timers that fire once Run runs.
func NewTimers() *Timers { return &Timers{keys: map[any]*alarm{}, wake: make(chan struct{}, 1)} }

// Set arms the alarm called key, in place of an earlier one of that name.
func (t *Timers) Set(key any, at time.Time, fire func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.keys[key]
	if a == nil {
		a = &alarm{key: key, at: at, fire: fire}
		t.keys[key] = a
		heap.Push(&t.heap, a)
	} else {
		a.at, a.fire = at, fire
		heap.Fix(&t.heap, a.index)
	}
	if t.heap[0] == a {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// Clear disarms an alarm.
func (t *Timers) Clear(key any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a := t.keys[key]; a != nil {
		delete(t.keys, key)
		heap.Remove(&t.heap, a.index)
	}
}

// Len is the number of armed alarms.
func (t *Timers) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.heap)
}

// Run fires alarms until ctx ends.
func (t *Timers) Run(ctx context.Context) {
	clock := time.NewTimer(time.Hour)
	defer clock.Stop()
	for {
		due, wait := t.due(time.Now())
		for _, fire := range due {
			fire()
		}
		clock.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		case <-clock.C:
		}
	}
}

func (t *Timers) due(now time.Time) (due []func(), wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.heap) > 0 {
		if wait := t.heap[0].at.Sub(now); wait > 0 {
			return due, wait
		}
		a := heap.Pop(&t.heap).(*alarm)
		delete(t.keys, a.key)
		due = append(due, a.fire)
	}
	return due, time.Hour
}

type alarms []*alarm

func (h alarms) Len() int           { return len(h) }
func (h alarms) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h alarms) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push adds an alarm; for container/heap.
func (h *alarms) Push(x any) {
	a := x.(*alarm)
	a.index = len(*h)
	*h = append(*h, a)
}

// Pop takes the last alarm; for container/heap.
func (h *alarms) Pop() any {
	last := len(*h) - 1
	a := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	a.index = -1
	return a
}
