package store

import (
	"context"
	"fmt"
	"sync/atomic"
)

// submission is one call of Commit, or a function to run between batches.
type submission struct {
	ops     []Op
	results []Result
	do      func()
	durable bool // an operation or condition in it needs the batch on disk
	gone    atomic.Bool
	done    chan struct{}
}

// Announce implements Store.
func (s *Local) Announce(n int) { s.c.announced.Add(int32(n)) }

// Commit implements Store.
func (s *Local) Commit(ctx context.Context, ops []Op) []Result {
	if len(ops) == 0 {
		return nil
	}
	sub := &submission{ops: ops, results: make([]Result, len(ops)), done: make(chan struct{})}
	queued, err := s.sealAll(ops)
	if err == nil {
		err = s.c.submit(ctx, sub, queued)
	}
	if err != nil {
		results := make([]Result, len(ops))
		for i := range results {
			results[i] = Result{Rev: s.Rev(), Err: err}
		}
		return results
	}
	return sub.results
}

// do runs f on the committer's goroutine, between batches.
func (c *committer) do(ctx context.Context, f func()) error {
	return c.submit(ctx, &submission{do: f, done: make(chan struct{})}, nil)
}

// submit queues sub, calls queued (nil for nothing), and waits for the answer.
func (c *committer) submit(ctx context.Context, sub *submission, queued func()) error {
	if queued == nil {
		queued = func() {}
	}
	if err := ctx.Err(); err != nil {
		queued()
		return err
	}
	c.mu.Lock()
	err := c.stop
	if err == nil || (sub.do != nil && err != ErrClosed) {
		err = nil
		c.queue = append(c.queue, sub)
	}
	c.mu.Unlock()
	queued()
	if err != nil {
		return err
	}
	select {
	case c.kick <- struct{}{}:
	default:
	}
	select {
	case <-sub.done:
		return nil
	case <-ctx.Done():
		sub.gone.Store(true)
		return fmt.Errorf("cannot tell whether the write happened: %w", ctx.Err())
	}
}
