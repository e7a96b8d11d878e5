package resource

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sagong/client"
	"sagong/object"
	"sagong/store"
)

// Event is one change as a watch shows it.
type Event struct {
	Type     client.EventType
	Item     Item
	Revision object.Revision
}

// WatchOptions narrow a watch.
type WatchOptions struct {
	Selector object.Selector
	// From is the revision after which changes are delivered; 0 means now.
	From object.Revision
}

// Watch follows the changes of t's namespace, or of all. One goroutine at a
// time may use it; Close may be called from any.
type Watch struct {
	e   *Engine
	k   *Kind
	w   store.Watcher
	sel object.Selector
	out []Event
	// release undoes that the watch ends with its kind; nil for built-in kinds.
	release func() bool
}

// Watch begins to follow the changes.
func (e *Engine) Watch(ctx context.Context, t Target, o WatchOptions) (*Watch, error) {
	if t.Gone() {
		return nil, apierrors.NewNotFound(t.gr(), t.Name)
	}
	prefix := t.listPrefix(t.Namespace)
	opts := store.WatchOptions{}
	if name, ok := o.Selector.Exact("metadata.name"); ok && (t.Namespace != "" || !t.Namespaced) {
		prefix = t.Kind.key(t.Namespace, name)
		opts.Exact = true
	} else if t.Resource == "pods" && t.Group == "" {
		opts.Tag, _ = o.Selector.Exact("spec.nodeName")
	}
	w, err := e.store.Watch(ctx, prefix, store.Rev(o.From), opts)
	if err != nil {
		return nil, watchError(ctx, err)
	}
	out := &Watch{e: e, k: t.Kind, w: w, sel: o.Selector}
	if d := t.Dynamic; d != nil && d.Life != nil {
		out.release = context.AfterFunc(d.Life, w.Close)
	}
	return out, nil
}

// Next waits for at least one event that the selector shows, or for the end of
// ctx. The slice is valid until the next call.
func (w *Watch) Next(ctx context.Context) ([]Event, error) {
	for {
		events, err := w.w.Next(ctx)
		if err != nil {
			return nil, watchError(ctx, err)
		}
		clear(w.out)
		w.out = w.out[:0]
		var converted []Item
		if d := w.k.Dynamic; d != nil && d.Converts {
			converted = make([]Item, len(events))
			for i := range events {
				converted[i] = w.e.item(w.k, events[i].Record)
			}
			if err := Convert(converted); err != nil {
				return nil, apierrors.NewInternalError(err)
			}
		}
		for i := range events {
			it := w.e.item(w.k, events[i].Record)
			if converted != nil {
				it = converted[i]
			}
			ev, ok, err := w.show(&events[i], it)
			if err != nil {
				return nil, apierrors.NewInternalError(err)
			}
			if ok {
				w.out = append(w.out, ev)
			}
		}
		if len(w.out) > 0 {
			return w.out, nil
		}
	}
}

// show turns a change of the store into what the selector lets see.
func (w *Watch) show(e *store.Event, it Item) (Event, bool, error) {
	out := Event{Revision: object.Revision(e.Rev), Item: it}
	if w.sel.Empty() {
		switch {
		case e.Type == store.Delete:
			out.Type = client.Deleted
		case e.Prev == nil:
			out.Type = client.Added
		default:
			out.Type = client.Modified
		}
		return out, true, nil
	}
	was, is := false, false
	var err error
	if e.Prev != nil {
		if was, err = w.e.item(w.k, e.Prev).matches(w.sel); err != nil {
			return out, false, err
		}
	}
	if e.Type == store.Put {
		if is, err = out.Item.matches(w.sel); err != nil {
			return out, false, err
		}
	}
	switch {
	case is && was:
		out.Type = client.Modified
	case is:
		out.Type = client.Added
	case was:
		out.Type = client.Deleted
		if e.Type == store.Put {
			out.Item = w.e.item(w.k, e.Prev).revised(out.Revision)
		}
	default:
		return out, false, nil
	}
	return out, true, nil
}

// Revision is the progress: everything up to it was returned by Next.
func (w *Watch) Revision() object.Revision { return object.Revision(w.w.Rev()) }

// Close ends the watch.
func (w *Watch) Close() {
	if w.release != nil {
		w.release()
	}
	w.w.Close()
}

func watchError(ctx context.Context, err error) error {
	var rev *store.RevError
	switch {
	case errors.As(err, &rev) && errors.Is(err, store.ErrCompacted):
		return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", rev.Rev, rev.Compacted))
	case errors.Is(err, store.ErrCompacted):
		return apierrors.NewResourceExpired("too old resource version")
	case errors.As(err, &rev):
		return tooLarge(object.Revision(rev.Rev), object.Revision(rev.Current))
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, store.ErrClosed):
		return client.ErrClosed
	}
	return apierrors.NewInternalError(err)
}
