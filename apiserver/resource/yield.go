package resource

import "context"

type yieldKey struct{}

// WithYield gives a request a way to say that it is about to wait: for the disk,
// a webhook or another server.
func WithYield(ctx context.Context, yield func()) context.Context {
	return context.WithValue(ctx, yieldKey{}, yield)
}

// Yield is called before a request waits. It does nothing the second time.
func Yield(ctx context.Context) {
	if yield, ok := ctx.Value(yieldKey{}).(func()); ok {
		yield()
	}
}
