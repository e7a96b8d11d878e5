package resource

import (
	"context"

	"sagong/object"
	"sagong/store"
)

// Count is how many objects of a kind are stored.
func (e *Engine) Count(ctx context.Context, d *object.Definition) (int64, error) {
	l, err := e.store.List(ctx, e.Kind(d).listPrefix(""), store.ListOptions{CountOnly: true})
	return l.Remaining, err
}
