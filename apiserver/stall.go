package apiserver

import (
	"sync"
	"sync/atomic"
	"time"
)

// stalls cuts off watches whose clients take nothing for long: until then each
// keeps a goroutine, what is being written, and while it has not seen all there
// was, a seat. One timer serves all.
type stalls struct {
	limit time.Duration
	looks atomic.Int64 // each half a limit after the other; counted from 1 on

	mu    sync.Mutex
	all   map[*stall]func()
	timer *time.Timer
}

// stall is one client's.
type stall struct {
	of    *stalls
	since atomic.Int64 // the number of looks when a write began; 0 while there is none
}

// begin notes the time, and reports whether none was noted.
func (s *stall) begin() bool {
	first := s.since.Load() == 0
	if first {
		s.since.Store(s.of.looks.Load() + 1)
	}
	return first
}

func (s *stall) end() { s.since.Store(0) }

// watch calls cut when a write takes longer than the limit, until the result is
// called.
func (a *stalls) watch(s *stall, cut func()) (stop func()) {
	s.of = a
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = map[*stall]func(){}
	}
	if a.all[s] = cut; len(a.all) == 1 {
		a.timer = time.AfterFunc(a.limit/2, a.look)
	}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if delete(a.all, s); len(a.all) == 0 {
			a.timer.Stop()
		}
	}
}

func (a *stalls) look() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.all) == 0 {
		return
	}
	now := a.looks.Add(1) + 1
	for s, cut := range a.all {
		if since := s.since.Load(); since != 0 && now-since > 2 { // more than two halves
			cut()
		}
	}
	a.timer.Reset(a.limit / 2)
}
