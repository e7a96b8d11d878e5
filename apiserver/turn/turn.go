// Package turn lets a request say that it is about to wait for others: for the
// disk, a webhook or another server. Requests that compute take turns
// (apiserver/fairness), and one that waits must not keep its own.
package turn

import "context"

type key struct{}

// With gives a request's context the way to give its turn back.
func With(ctx context.Context, yield func()) context.Context {
	return context.WithValue(ctx, key{}, yield)
}

// Yield is called before a request waits. It does nothing the second time, and
// for what has no turn.
func Yield(ctx context.Context) {
	if yield, ok := ctx.Value(key{}).(func()); ok {
		yield()
	}
}
