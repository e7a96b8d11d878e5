package reconcile

import (
	"sync"
	"time"

	"sagong/object"
)

const (
	// Delays after failures of one key, doubling in between. Upstream's first
	// and, instead of its 1000 s, a last that a person is willing to wait for.
	firstDelay = 5 * time.Millisecond
	lastDelay  = 2 * time.Minute
	// quickConflicts is how often in a row a conflict is retried without delay.
	quickConflicts = 5
	// parkLimit frees a key whose awaited change does not come, which would be
	// a fault of the server; upstream's expectations expire after five minutes.
	parkLimit = time.Minute
)

// queue hands out the keys of one controller: each once however often it was
// added, never one that is being handled, never one whose own writes the views
// do not show yet.
type queue struct {
	name    string
	timers  *timers
	metrics Metrics
	sources map[*object.Definition]source
	spawn   func() // starts a worker

	mu      sync.Mutex
	entries map[object.Key]*entry
	ready   []object.Key // in order of arrival
	parked  map[object.Key]*entry
	active  int // workers
	limit   int
	closed  bool
}

// entry is what is known of a key. It is dropped when it says nothing.
type entry struct {
	key      object.Key
	ready    bool // in queue.ready
	running  bool
	dirty    bool // to be handled once it neither runs nor is parked
	failures int
	added    time.Time // when it became ready
	waiting  []note    // what the views must show first
	until    time.Time // when waiting is given up
	alarm    alarm     // delayed add
	release  alarm     // end of parking
	rest     *alarm    // set while the key rests
}

func newQueue(name string, t *timers, m Metrics, limit int, spawn func()) *queue {
	return &queue{
		name: name, timers: t, metrics: m, limit: limit, spawn: spawn,
		sources: map[*object.Definition]source{},
		entries: map[object.Key]*entry{}, parked: map[object.Key]*entry{},
	}
}

func (q *queue) entry(k object.Key) *entry {
	e := q.entries[k]
	if e == nil {
		e = &entry{key: k}
		e.alarm = alarm{index: -1, fire: func() { q.add(k) }}
		e.release = alarm{index: -1, fire: func() { q.unpark(k) }}
		q.entries[k] = e
	}
	return e
}

// add asks for a key to be handled.
func (q *queue) add(k object.Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.metrics.Added(q.name)
	e := q.entry(k)
	e.dirty = true
	q.offer(e)
}

// offer makes a dirty entry ready when nothing stands against it.
func (q *queue) offer(e *entry) {
	if !e.dirty || e.ready || e.running || e.rest != nil || len(e.waiting) > 0 || q.closed {
		return
	}
	e.ready, e.added = true, time.Now()
	q.ready = append(q.ready, e.key)
	q.metrics.Depth(q.name, len(q.ready))
	if q.active < q.limit {
		q.active++
		q.spawn()
	}
}

// next gives a worker its next key; without one the worker must end.
func (q *queue) next() (object.Key, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || len(q.ready) == 0 {
		q.active--
		return object.Key{}, false
	}
	k := q.ready[0]
	q.ready[0] = object.Key{}
	q.ready = q.ready[1:]
	if len(q.ready) == 0 {
		q.ready = nil
	}
	e := q.entries[k]
	e.ready, e.dirty, e.running = false, false, true
	q.metrics.Depth(q.name, len(q.ready))
	q.metrics.Waited(q.name, time.Since(e.added))
	return k, true
}

// outcome is how a handling ended.
type outcome struct {
	notes    []note
	after    time.Duration
	rest     time.Duration
	failed   bool
	conflict bool
}

// done ends the handling of a key. It returns the delay before a retry.
func (q *queue) done(k object.Key, o outcome) (retry time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entries[k]
	e.running = false
	for _, n := range o.notes {
		if s := q.sources[n.def]; s != nil && !n.reached(s) {
			e.waiting = append(e.waiting, n)
		}
	}
	if len(e.waiting) > 0 {
		q.parked[k] = e
		e.until = time.Now().Add(parkLimit)
		q.timers.set(&e.release, parkLimit)
	}
	q.timers.clear(&e.alarm)
	switch {
	case !o.failed:
		e.failures = 0
		if o.after > 0 {
			q.timers.set(&e.alarm, o.after)
		}
		if o.rest > 0 {
			e.rest = &alarm{index: -1, fire: func() { q.rested(e) }}
			q.timers.set(e.rest, o.rest)
		}
	default:
		q.metrics.Retried(q.name)
		e.failures++
		if o.conflict && e.failures <= quickConflicts {
			e.dirty = true // parked until the view has moved, then at once
			break
		}
		retry = delay(e.failures)
		q.timers.set(&e.alarm, retry)
	}
	q.offer(e)
	q.drop(e)
	return retry
}

// rested ends a key's rest.
func (q *queue) rested(e *entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.rest = nil
	q.offer(e)
	q.drop(e)
}

func delay(failures int) time.Duration {
	return min(firstDelay<<min(failures-1, 20), lastDelay)
}

// advance frees parked keys whose conditions have come true.
func (q *queue) advance() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	for k, e := range q.parked {
		for len(e.waiting) > 0 {
			last := &e.waiting[len(e.waiting)-1]
			if !last.reached(q.sources[last.def]) {
				break
			}
			e.waiting = e.waiting[:len(e.waiting)-1]
		}
		if len(e.waiting) == 0 {
			q.free(k, e)
		}
	}
}

// unpark frees a key whose time is up, and has it handled to make sure.
func (q *queue) unpark(k object.Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.parked[k]; e != nil && !time.Now().Before(e.until) {
		e.dirty = true
		q.free(k, e)
	}
}

func (q *queue) free(k object.Key, e *entry) {
	e.waiting = nil
	delete(q.parked, k)
	q.timers.clear(&e.release)
	q.offer(e)
	q.drop(e)
}

func (q *queue) drop(e *entry) {
	if !e.ready && !e.running && !e.dirty && e.failures == 0 && e.rest == nil && len(e.waiting) == 0 && !q.timers.armed(&e.alarm) {
		delete(q.entries, e.key)
	}
}

// close stops handing out keys.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, e := range q.entries {
		q.timers.clear(&e.alarm)
		q.timers.clear(&e.release)
		if e.rest != nil {
			q.timers.clear(e.rest)
		}
	}
}

// len is the number of keys ready to be handled.
func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.ready)
}
