package resource

import (
	"bytes"
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sagong/object"
	"sagong/store"
)

// rewrite is the attempt of a change the server itself makes on behalf of a
// subresource: no admission and validation of the main object, and tried again
// until it wins. The change may share what it leaves alone with the old object.
func (e *Engine) rewrite(t Target, ch change, dry bool) attempt {
	return func(ctx context.Context) (step, error) {
		rec, old, err := e.read(ctx, t)
		if err != nil {
			return step{}, err
		}
		obj, err := ch(ctx, old)
		if err != nil {
			return step{}, err
		}
		obj.SetResourceVersion("")
		value, err := t.Encode(obj)
		if err != nil {
			return step{}, apierrors.NewInternalError(err)
		}
		if bytes.Equal(value, rec.Value()) {
			return step{item: e.item(t.Kind, rec), kind: t.Kind}, nil
		}
		if dry {
			return step{item: Item{e: e, k: t.Kind, obj: obj, rev: object.Revision(rec.ModRev)}}, nil
		}
		return step{
			op: e.put(t.Kind, rec.Key, rec.ModRev, obj, value), kind: t.Kind, obj: obj,
			conflict: func(f *store.OpError) (bool, error) {
				if errors.Is(f, store.ErrNotFound) {
					return false, apierrors.NewNotFound(t.gr(), t.Name)
				}
				return true, apierrors.NewConflict(t.gr(), t.Name, errors.New(modifiedText))
			},
		}, nil
	}
}
