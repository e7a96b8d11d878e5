package resource

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sagong/object"
)

// Source answers reads of a kind that is not stored but found out when somebody
// asks: what pods use. Objects it returns belong to the caller's answer and are
// not changed afterwards. Both methods may be called at the same time.
type Source interface {
	// Get finds one object; nil when there is none.
	Get(ctx context.Context, namespace, name string) (object.Object, error)
	// List returns those a selector chooses, of one namespace or ("") of all,
	// by namespace and name.
	List(ctx context.Context, namespace string, s object.Selector) ([]object.Object, error)
}

// ReadFrom has a source answer for a kind instead of the store. It is called
// while the server is composed.
func (e *Engine) ReadFrom(d *object.Definition, s Source) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sources[d] = s
}

func (e *Engine) source(d *object.Definition) Source {
	if d.Verbs == nil {
		return nil // a stored kind
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.sources[d]
}

// getFrom is Get from a source.
func (e *Engine) getFrom(ctx context.Context, s Source, t Target) (Item, error) {
	o, err := s.Get(ctx, t.Namespace, t.Name)
	if err != nil {
		return Item{}, err
	}
	if o == nil {
		name := t.Name
		if t.Namespaced {
			name = t.Namespace + "/" + t.Name
		}
		// The names of metrics-server: "podmetrics.metrics.k8s.io "ns/name" not found".
		gr := t.gr()
		gr.Resource = t.Singular
		return Item{}, apierrors.NewNotFound(gr, name)
	}
	return Item{e: e, k: t.Kind, obj: o}, nil
}

// listFrom is List from a source: all at once, at no revision.
func (e *Engine) listFrom(ctx context.Context, s Source, t Target, o ListOptions) (List, error) {
	if o.Continue != "" {
		return List{}, apierrors.NewBadRequest(fmt.Sprintf("lists of %s come in one piece", t.gr()))
	}
	found, err := s.List(ctx, t.Namespace, o.Selector)
	if err != nil {
		return List{}, err
	}
	out := List{Items: make([]Item, len(found))}
	for i, o := range found {
		out.Items[i] = Item{e: e, k: t.Kind, obj: o}
	}
	return out, nil
}
