package resource

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/object"
	"sagong/store"
)

// Seed stores a new object as it is, past admission and validation. It is for
// what a server makes itself before anybody may ask, and for tests. obj belongs
// to the engine from now on.
func (e *Engine) Seed(ctx context.Context, d *object.Definition, obj object.Object) error {
	k := e.Kind(d)
	if d.Default != nil {
		d.Default(obj)
	}
	if obj.GetUID() == "" {
		obj.SetUID(types.UID(uuid.NewString()))
	}
	if at := obj.GetCreationTimestamp(); at.IsZero() {
		obj.SetCreationTimestamp(metav1.Unix(e.now().Unix(), 0))
	}
	if d.Generation && obj.GetGeneration() == 0 {
		obj.SetGeneration(1)
	}
	obj.SetResourceVersion("")
	value, err := k.Encode(obj)
	if err != nil {
		return fmt.Errorf("cannot store %s %s: %w", d.Kind, obj.GetName(), err)
	}
	r := e.store.Commit(ctx, []store.Op{*e.put(k, k.key(obj.GetNamespace(), obj.GetName()), 0, obj, value)})[0]
	if r.Err != nil {
		return fmt.Errorf("cannot store %s %s: %w", d.Kind, obj.GetName(), r.Err)
	}
	return nil
}
