package image

import (
	"context"
	"sync"
)

// none is the value of work done for its effect.
type none = struct{}

// flight lets callers that want the same thing at the same time share one
// piece of work. The work is cancelled when nobody waits for it any more.
// The zero value is ready.
type flight[K comparable, V any] struct {
	mu   sync.Mutex
	jobs map[K]*job[V]
}

// job is work in progress and those who wait for it.
type job[V any] struct {
	done    chan none
	cancel  context.CancelFunc
	waiters int // guarded by the flight's mu
	value   V
	err     error
	news    news
}

// do returns the result of work for the key, starting it unless it is under
// way. It returns early with ctx's error when ctx ends; the work goes on as
// long as somebody waits, under a context that carries ctx's values only.
// progress, which may be nil, hears of the work until do returns.
func (f *flight[K, V]) do(ctx context.Context, key K, progress func(Progress), work func(context.Context, func(Progress)) (V, error)) (V, error) {
	f.mu.Lock()
	j := f.jobs[key]
	if j == nil {
		wctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		j = &job[V]{done: make(chan none), cancel: cancel}
		if f.jobs == nil {
			f.jobs = map[K]*job[V]{}
		}
		f.jobs[key] = j
		go func() {
			v, err := work(wctx, j.news.tell)
			f.mu.Lock()
			j.value, j.err = v, err
			if f.jobs[key] == j {
				delete(f.jobs, key)
			}
			f.mu.Unlock()
			cancel()
			close(j.done)
		}()
	}
	j.waiters++
	f.mu.Unlock()
	defer j.news.follow(progress)()
	select {
	case <-j.done:
		return j.value, j.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	j.waiters--
	last := j.waiters == 0
	if last && f.jobs[key] == j {
		delete(f.jobs, key) // whoever comes now starts afresh
	}
	f.mu.Unlock()
	if last {
		// Nobody else will wait for the goroutine, so this caller does.
		j.cancel()
		<-j.done
	}
	var zero V
	return zero, ctx.Err()
}

// news passes the progress of one piece of work to those who follow it.
type news struct {
	mu        sync.Mutex
	last      Progress
	followers map[int]func(Progress)
	next      int
}

// tell passes progress on, one call at a time.
func (n *news) tell(p Progress) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = p
	for _, f := range n.followers {
		f(p)
	}
}

// follow has f, unless it is nil, called with what is known already and then
// with all news, until the function it returns is called.
func (n *news) follow(f func(Progress)) (stop func()) {
	if f == nil {
		return func() {}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.followers == nil {
		n.followers = map[int]func(Progress){}
	}
	id := n.next
	n.next++
	n.followers[id] = f
	if n.last != (Progress{}) {
		f(n.last)
	}
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.followers, id)
	}
}
