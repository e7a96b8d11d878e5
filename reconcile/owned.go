package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
)

const ownerIndex = "controller"

// IndexOwners makes Candidates answer in the time of its result. Call it before
// the view runs.
func IndexOwners[T object.Object](v *View[T]) {
	v.Index(ownerIndex, func(o T) []string {
		if ref := metav1.GetControllerOfNoCopy(o); ref != nil {
			return []string{string(ref.UID)}
		}
		return []string{"orphan/" + o.GetNamespace()}
	})
}

// OwnedBy returns what an object controls.
func OwnedBy[T object.Object](v *View[T], owner types.UID) []T {
	return v.By(ownerIndex, string(owner))
}

// Orphans returns the objects of a namespace that nothing controls.
func Orphans[T object.Object](v *View[T], namespace string) []T {
	return v.By(ownerIndex, "orphan/"+namespace)
}

// Claim returns the objects that owner controls, after releasing those that no
// longer match and adopting orphans that do. Before the first adoption the owner
// is read live, so that one that was deleted and made anew adopts nothing.
// What could be claimed is returned even with an error.
func Claim[T object.Object](ctx context.Context, c client.Client, v *View[T], owner object.Object, matches func(T) bool) ([]T, error) {
	var (
		owned   []T
		errs    []error
		d       = v.Definition()
		kind    = c.Scheme().ByObject(owner)
		adopts  bool
		refused error
	)
	for _, o := range OwnedBy(v, owner.GetUID()) {
		if matches(o) {
			owned = append(owned, o)
			continue
		}
		if owner.GetDeletionTimestamp() != nil {
			continue
		}
		err := release(ctx, c, d, o, owner.GetUID())
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsInvalid(err) {
			errs = append(errs, fmt.Errorf("cannot release %s %s: %w", d.Kind, object.KeyOf(o), err))
		}
	}
	if owner.GetDeletionTimestamp() != nil {
		return owned, errors.Join(errs...)
	}
	for _, o := range Orphans(v, owner.GetNamespace()) {
		if o.GetDeletionTimestamp() != nil || !matches(o) {
			continue
		}
		if !adopts && refused == nil {
			refused = mayAdopt(ctx, c, kind, owner)
			adopts = refused == nil
		}
		if refused != nil {
			errs = append(errs, fmt.Errorf("cannot adopt %s %s: %w", d.Kind, object.KeyOf(o), refused))
			break
		}
		adopted, err := adopt(ctx, c, d, o, metav1.NewControllerRef(owner, kind.GVK()))
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			errs = append(errs, fmt.Errorf("cannot adopt %s %s: %w", d.Kind, object.KeyOf(o), err))
		default:
			owned = append(owned, adopted.(T))
		}
	}
	return owned, errors.Join(errs...)
}

func mayAdopt(ctx context.Context, c client.Client, kind *object.Definition, owner object.Object) error {
	live, err := c.Get(ctx, kind, owner.GetNamespace(), owner.GetName())
	if err != nil {
		return err
	}
	if live.GetUID() != owner.GetUID() {
		return fmt.Errorf("original %s %s is gone: got uid %s, wanted %s", kind.Kind, object.KeyOf(owner), live.GetUID(), owner.GetUID())
	}
	if t := live.GetDeletionTimestamp(); t != nil {
		return fmt.Errorf("%s has just been deleted at %s", object.KeyOf(owner), t)
	}
	return nil
}

func adopt(ctx context.Context, c client.Client, d *object.Definition, o object.Object, ref *metav1.OwnerReference) (object.Object, error) {
	refs := append([]metav1.OwnerReference{*ref}, o.GetOwnerReferences()...)
	return PatchOwners(ctx, c, d, o, refs)
}

func release(ctx context.Context, c client.Client, d *object.Definition, o object.Object, owner types.UID) error {
	var refs []metav1.OwnerReference
	for _, r := range o.GetOwnerReferences() {
		if r.UID != owner {
			refs = append(refs, r)
		}
	}
	_, err := PatchOwners(ctx, c, d, o, refs)
	return err
}

// PatchOwners replaces an object's owner references, provided that it is still
// the revision given: a conflict otherwise.
func PatchOwners(ctx context.Context, c client.Client, d *object.Definition, o object.Object, refs []metav1.OwnerReference) (object.Object, error) {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": o.GetUID(), "resourceVersion": o.GetResourceVersion(), "ownerReferences": refs,
	}})
	if err != nil {
		return nil, err
	}
	return c.Patch(ctx, d, o.GetNamespace(), o.GetName(), client.Patch{Type: types.MergePatchType, Data: body})
}
