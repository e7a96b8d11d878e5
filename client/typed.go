package client

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/object"
)

// Get reads the object of T's kind, such as Get[*corev1.Pod].
func Get[T object.Object](ctx context.Context, c Client, namespace, name string) (T, error) {
	o, err := c.Get(ctx, object.Of[T](c.Scheme()), namespace, name)
	if err != nil {
		var none T
		return none, err
	}
	return o.(T), nil
}

// ListOf reads all objects of T's kind in a namespace ("" for all) and the
// revision of the snapshot.
func ListOf[T object.Object](ctx context.Context, c Client, namespace string, o ListOptions) ([]T, object.Revision, error) {
	l, err := c.List(ctx, object.Of[T](c.Scheme()), namespace, o)
	if err != nil {
		return nil, 0, err
	}
	items := make([]T, len(l.Items))
	for i, it := range l.Items {
		items[i] = it.(T)
	}
	return items, l.Revision, nil
}

// Create writes a new object.
func Create[T object.Object](ctx context.Context, c Client, obj T) (T, error) {
	return typed[T](c.Create(ctx, object.Of[T](c.Scheme()), obj))
}

// Update replaces an object's main part.
func Update[T object.Object](ctx context.Context, c Client, obj T) (T, error) {
	return typed[T](c.Update(ctx, object.Of[T](c.Scheme()), obj, ""))
}

// UpdateStatus replaces an object's status.
func UpdateStatus[T object.Object](ctx context.Context, c Client, obj T) (T, error) {
	return typed[T](c.Update(ctx, object.Of[T](c.Scheme()), obj, "status"))
}

// Delete deletes an object of T's kind.
func Delete[T object.Object](ctx context.Context, c Client, namespace, name string, o metav1.DeleteOptions) error {
	return c.Delete(ctx, object.Of[T](c.Scheme()), namespace, name, o)
}

// PatchOf applies a patch to an object of T's kind.
func PatchOf[T object.Object](ctx context.Context, c Client, namespace, name string, p Patch) (T, error) {
	return typed[T](c.Patch(ctx, object.Of[T](c.Scheme()), namespace, name, p))
}

func typed[T object.Object](o object.Object, err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return o.(T), nil
}
