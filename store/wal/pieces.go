package wal

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Place puts a piece of what was read where it belongs.
type Place func() error

// pieces works on what is read on all processors, and puts it in place in order.
type pieces struct {
	work   chan piece
	order  chan chan Place
	failed atomic.Pointer[error]
	err    error
	done   sync.WaitGroup
}

type piece struct {
	f     func() Place
	place chan Place
}

// newPieces starts the workers. finish ends them.
func newPieces() *pieces {
	n := runtime.GOMAXPROCS(0)
	p := &pieces{work: make(chan piece, n), order: make(chan chan Place, 2*n)}
	for range n {
		p.done.Go(func() {
			for w := range p.work {
				w.place <- w.f()
			}
		})
	}
	p.done.Go(func() {
		for c := range p.order {
			if place := <-c; p.err == nil {
				if p.err = place(); p.err != nil {
					p.failed.Store(&p.err)
				}
			}
		}
	})
	return p
}

// add has f called on another goroutine, and then what it returns, after that of
// the pieces before. It fails with the error of one of these.
func (p *pieces) add(f func() Place) error {
	if err := p.failed.Load(); err != nil {
		return *err
	}
	w := piece{f, make(chan Place, 1)}
	p.order <- w.place
	p.work <- w
	return nil
}

// finish waits until all pieces are in place and returns the first error.
func (p *pieces) finish() error {
	close(p.work)
	close(p.order)
	p.done.Wait()
	return p.err
}
