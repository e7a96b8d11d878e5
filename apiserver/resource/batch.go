package resource

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
)

// Batch carries out independent writes, those that need no second try in one
// commit. allow is asked about each first. Results are in order.
func (e *Engine) Batch(ctx context.Context, c Caller, writes []client.Write, allow func(Target, string) error) []client.Result {
	c = c.together()
	attempts := make([]attempt, len(writes))
	results := make([]client.Result, len(writes))
	for i, w := range writes {
		a, err := e.write(c, w, allow)
		if err != nil {
			results[i].Err = err
			continue
		}
		attempts[i] = a
	}
	for i, r := range e.runAll(ctx, attempts) {
		if attempts[i] == nil {
			continue
		}
		if results[i].Err = r.err; r.err != nil || writes[i].Op == client.OpBind {
			continue
		}
		results[i].Object, results[i].Err = r.item.Shared()
	}
	return results
}

func (e *Engine) write(c Caller, w client.Write, allow func(Target, string) error) (attempt, error) {
	if w.Definition == nil || w.Object == nil {
		return nil, apierrors.NewBadRequest("a write of a batch needs a definition and an object")
	}
	t := Target{Kind: e.Kind(w.Definition), Namespace: w.Object.GetNamespace(), Name: w.Object.GetName()}
	verb := ""
	var a attempt
	switch w.Op {
	case client.OpCreate:
		verb = "create"
		named := t.Name
		t.Name = ""
		a = e.create(c, t, w.Object, &metav1.CreateOptions{})
		t.Name = named
	case client.OpUpdate, client.OpUpdateStatus:
		verb = "update"
		if w.Op == client.OpUpdateStatus {
			t.Subresource = "status"
			if !e.IsPart(t) {
				return nil, apierrors.NewNotFound(t.gr(), t.Name+"/status")
			}
		}
		a = e.replace(c, t, w.Object, &metav1.UpdateOptions{}, new(bool))
	case client.OpDelete:
		verb = "delete"
		o := w.Delete
		if uid := w.Object.GetUID(); uid != "" && o.Preconditions == nil {
			o.Preconditions = &metav1.Preconditions{UID: &uid}
		}
		a = e.delete(c, t, &o, nil)
	case client.OpBind:
		b, ok := w.Object.(*corev1.Binding)
		if !ok {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("a bind needs a Binding, not a %T", w.Object))
		}
		t.Subresource, verb = "binding", "create"
		a = e.bind(c, t, b, &metav1.CreateOptions{})
	default:
		return nil, apierrors.NewBadRequest(fmt.Sprintf("operation %d of a batch is unknown", w.Op))
	}
	if allow != nil {
		if err := allow(t, verb); err != nil {
			return nil, err
		}
	}
	return a, nil
}
