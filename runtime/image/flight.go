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
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int
	value   V
	err     error
	watch   map[int]func(Progress)
	nextID  int
	last    Progress
}

// do returns the result of work for the key, starting it unless it is under
// way. It returns early with ctx's error when ctx ends; the work goes on as
// long as somebody waits, under a context that carries ctx's values only.
// progress, which may be nil, hears of the work from now on.
func (f *flight[K, V]) do(ctx context.Context, key K, progress func(Progress), work func(context.Context, func(Progress)) (V, error)) (V, error) {
	f.mu.Lock()
	j := f.jobs[key]
	if j == nil {
		wctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		j = &job[V]{done: make(chan struct{}), cancel: cancel}
		if f.jobs == nil {
			f.jobs = map[K]*job[V]{}
		}
		f.jobs[key] = j
		go func() {
			v, err := work(wctx, func(p Progress) { f.tell(j, p) })
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
	watcher := -1
	if progress != nil {
		if j.watch == nil {
			j.watch = map[int]func(Progress){}
		}
		watcher = j.nextID
		j.nextID++
		j.watch[watcher] = progress
		if j.last != (Progress{}) {
			progress(j.last)
		}
	}
	f.mu.Unlock()
	select {
	case <-j.done:
		return j.value, j.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	j.waiters--
	delete(j.watch, watcher)
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

// tell passes progress to everybody who watches the job.
func (f *flight[K, V]) tell(j *job[V], p Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j.last = p
	for _, w := range j.watch {
		w(p)
	}
}
