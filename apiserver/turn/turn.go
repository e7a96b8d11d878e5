// Package turn lets a request say that it is about to wait for others: for the
// disk, a webhook or another server. Requests that compute take turns
// (apiserver/fairness), and one that waits must not keep its own.
package turn

import (
	"context"
	"sync/atomic"
	"time"
)

type key struct{}

// Turn is a request's.
type Turn struct {
	// Yield gives it back; it does nothing the second time.
	Yield func()

	waited atomic.Int64
}

// With gives a request's context its turn.
func With(ctx context.Context, t *Turn) context.Context { return context.WithValue(ctx, key{}, t) }

// Yield is called before a request waits. It does nothing the second time, and
// for what has no turn.
func Yield(ctx context.Context) {
	if t, ok := ctx.Value(key{}).(*Turn); ok {
		t.Yield()
	}
}

// Waited is called after a request waited in a queue, or for admission webhooks.
func Waited(ctx context.Context, d time.Duration) {
	if t, ok := ctx.Value(key{}).(*Turn); ok {
		t.Wait(d)
	}
}

// Wait counts time that the request waited.
func (t *Turn) Wait(d time.Duration) { t.waited.Add(int64(d)) }

// Waits is the time that the request waited in a queue, or for admission webhooks.
func (t *Turn) Waits() time.Duration { return time.Duration(t.waited.Load()) }
