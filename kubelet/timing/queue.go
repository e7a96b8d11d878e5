package timing

import "sync"

// Queue holds keys that await work. A key that is added while it waits is not
// added twice; one that is added while it is worked on is offered again when
// that work is done. So no key is ever worked on twice at a time.
type Queue[K comparable] struct {
	mu      sync.Mutex
	more    sync.Cond
	waiting []K
	dirty   map[K]bool
	working map[K]bool
	closed  bool
}

// NewQueue returns an empty queue.
func NewQueue[K comparable]() *Queue[K] {
	q := &Queue[K]{dirty: map[K]bool{}, working: map[K]bool{}}
	q.more.L = &q.mu
	return q
}

// Add asks for work on a key.
func (q *Queue[K]) Add(k K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.dirty[k] {
		return
	}
	q.dirty[k] = true
	if !q.working[k] {
		q.waiting = append(q.waiting, k)
		q.more.Signal()
	}
}

// Next waits for a key; ok is false once the queue is closed. Done must follow.
func (q *Queue[K]) Next() (k K, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) == 0 && !q.closed {
		q.more.Wait()
	}
	if q.closed {
		return k, false
	}
	k = q.waiting[0]
	q.waiting = q.waiting[1:]
	delete(q.dirty, k)
	q.working[k] = true
	return k, true
}

// Done ends the work on a key.
func (q *Queue[K]) Done(k K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.working, k)
	if q.dirty[k] && !q.closed {
		q.waiting = append(q.waiting, k)
		q.more.Signal()
	}
}

// Close makes Next return false for all.
func (q *Queue[K]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.more.Broadcast()
}
