package store

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// entry is an event in the history, shared by all feeds that hold it.
type entry struct {
	Event
	topic    *topic // nil if the key has none
	at       int64  // milliseconds since the store was opened
	seq      uint64 // its place in the feed of everything
	tag      string
	prevTag  string
	retained int32 // bytes that are kept alive only for the history
	tagged   bool  // tag and prevTag are known; under topic.mu
}

// ring is a queue with random access and exact release of what was popped.
type ring[T any] struct {
	buf   []T
	start int
	n     int
	first uint64 // sequence number of the oldest element
}

func (r *ring[T]) push(v T) {
	if r.n == len(r.buf) {
		r.resize(max(8, 2*r.n))
	}
	r.buf[(r.start+r.n)&(len(r.buf)-1)] = v
	r.n++
}

// drop forgets the element of a sequence number, whose place stays.
func (r *ring[T]) drop(seq uint64) {
	var zero T
	r.buf[(r.start+int(seq-r.first))&(len(r.buf)-1)] = zero
}

func (r *ring[T]) pop() {
	var zero T
	r.buf[r.start] = zero
	r.start = (r.start + 1) & (len(r.buf) - 1)
	r.n--
	r.first++
	if len(r.buf) > 64 && r.n < len(r.buf)/4 {
		r.resize(len(r.buf) / 2)
	}
}

// resize moves the elements to a buffer of size, a power of two.
func (r *ring[T]) resize(size int) {
	buf := make([]T, size)
	for i := range r.n {
		buf[i] = r.at(i)
	}
	r.buf, r.start = buf, 0
}

func (r *ring[T]) at(i int) T { return r.buf[(r.start+i)&(len(r.buf)-1)] }

// end is the sequence number of the next element to be pushed.
func (r *ring[T]) end() uint64 { return r.first + uint64(r.n) }

// after returns the sequence number of the first entry above rev, below which
// entries may have been thinned out.
func after(r *ring[*entry], rev Rev) uint64 {
	lo, hi := 0, r.n
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if e := r.at(mid); e == nil || e.Rev <= rev {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return r.first + uint64(lo)
}

// feed is a sequence of entries and those who wait for its next one. It is
// guarded by its topic's lock.
type feed struct {
	ring[*entry]
	wake     chan struct{} // closed at the next publication, nil when nobody waits
	waiting  int
	watchers int
	armed    bool // a delayed wake-up is under way
	touched  bool // is in topic.woken
}

// waitChan returns the channel that the next wake-up closes.
func (f *feed) waitChan() <-chan struct{} {
	if f.wake == nil {
		f.wake = make(chan struct{})
	}
	f.waiting++
	return f.wake
}

func (f *feed) wakeAll() {
	f.armed = false
	if f.wake != nil {
		close(f.wake)
		f.wake, f.waiting = nil, 0
	}
}

// trim pops what is not above rev.
func (f *feed) trim(rev Rev) {
	for f.n > 0 && f.at(0).Rev <= rev {
		f.pop()
	}
}

// topic holds the feeds of one resource. All of its events are in all; the
// narrower feeds exist only while somebody watches them, and begin with the
// first watcher: what is older a watcher reads from all.
type topic struct {
	name    string
	tag     func(*Record) string
	thinned atomic.Int64 // revision up to which it is compacted, where that is above the store's
	busy    bool         // is in committer.busy

	mu     sync.Mutex
	dead   bool // was dropped from the store's map: look it up again
	all    feed
	tags   map[string]*feed
	spaces map[string]*feed // by the key up to the slash after the topic: a namespace
	keys   map[string]*feed
	woken  []*feed // feeds published to since the last wake
}

// space returns the part of key up to and including the next slash after the
// topic, "" if there is none.
func (t *topic) space(key string) string {
	if len(key) <= len(t.name) {
		return ""
	}
	if at := strings.IndexByte(key[len(t.name):], '/'); at >= 0 {
		return key[:len(t.name)+at+1]
	}
	return ""
}

func (t *topic) tagLocked(e *entry) {
	if e.tagged || t.tag == nil {
		return
	}
	e.tagged = true
	e.tag = t.tag(e.Record)
	if e.Prev != nil && !e.Prev.deleted {
		e.prevTag = t.tag(e.Prev)
	}
}

// appendLocked adds an entry to every feed that selects it.
func (t *topic) appendLocked(e *entry) {
	t.toLocked(&t.all, e)
	if len(t.tags) > 0 {
		t.tagLocked(e)
		if f := t.tags[e.tag]; f != nil && e.tag != "" {
			t.toLocked(f, e)
		}
		if f := t.tags[e.prevTag]; f != nil && e.prevTag != "" && e.prevTag != e.tag {
			t.toLocked(f, e)
		}
	}
	if len(t.spaces) > 0 {
		if f := t.spaces[t.space(e.Record.Key)]; f != nil {
			t.toLocked(f, e)
		}
	}
	if len(t.keys) > 0 {
		if f := t.keys[e.Record.Key]; f != nil {
			t.toLocked(f, e)
		}
	}
}

func (t *topic) toLocked(f *feed, e *entry) {
	f.push(e)
	if !f.touched {
		f.touched = true
		t.woken = append(t.woken, f)
	}
}

// trimLocked drops e, the oldest entry of the topic, from every feed.
func (t *topic) trimLocked(e *entry) {
	t.all.trim(e.Rev)
	if e.tagged {
		for _, tag := range [2]string{e.tag, e.prevTag} {
			if f := t.tags[tag]; f != nil {
				f.trim(e.Rev)
			}
		}
	}
	if f := t.spaces[t.space(e.Record.Key)]; f != nil {
		f.trim(e.Rev)
	}
	if f := t.keys[e.Record.Key]; f != nil {
		f.trim(e.Rev)
	}
}

// wake releases those who wait for what was appended. A crowd is released
// together after a short delay, so that a stream of single commits costs it one
// round and not one each.
func (t *topic) wake(crowd int, delay time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, f := range t.woken {
		t.woken[i] = nil
		f.touched = false
		switch {
		case f.armed || f.wake == nil:
		case f.waiting <= crowd:
			f.wakeAll()
		default:
			f.armed = true
			time.AfterFunc(delay, func() {
				t.mu.Lock()
				f.wakeAll()
				t.mu.Unlock()
			})
		}
	}
	t.woken = t.woken[:0]
}
