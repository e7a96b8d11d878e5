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
		return []string{orphansOf(o.GetNamespace())}
	})
}

// orphansOf is where the index holds the objects of a namespace that nothing
// controls.
func orphansOf(namespace string) string { return "orphan/" + namespace }

// OwnedBy returns what an object controls.
func OwnedBy[T object.Object](v *View[T], owner types.UID) []T {
	return v.By(ownerIndex, string(owner))
}

// Orphans returns the objects of a namespace that nothing controls.
func Orphans[T object.Object](v *View[T], namespace string) []T {
	return v.By(ownerIndex, orphansOf(namespace))
}

// Claim returns the objects that owner controls, after releasing those that no
// longer match and adopting orphans that do. Before the first adoption the owner
// is read live, so that one that was deleted and made anew adopts nothing.
// What could be claimed is returned even with an error.
func Claim[T object.Object](ctx context.Context, c client.Client, v *View[T], owner object.Object, matches func(T) bool) ([]T, error) {
	var owned []T
	x := claiming{c: c, d: v.Definition(), owner: owner}
	for _, o := range OwnedBy(v, owner.GetUID()) {
		if matches(o) {
			owned = append(owned, o)
		} else {
			x.release(ctx, o)
		}
	}
	for _, o := range Orphans(v, owner.GetNamespace()) {
		if !matches(o) {
			continue
		}
		if adopted := x.adopt(ctx, o); adopted != nil {
			owned = append(owned, adopted.(T))
		}
	}
	return owned, errors.Join(x.errs...)
}

// claiming is one owner's way through the objects that may be its own.
type claiming struct {
	c       client.Client
	d       *object.Definition // of the objects
	owner   object.Object
	asked   bool // whether owner may adopt, which it may not when refused
	refused bool
	errs    []error
}

// release ends the ownership of an object that does not match.
func (x *claiming) release(ctx context.Context, o object.Object) {
	if x.owner.GetDeletionTimestamp() != nil {
		return
	}
	err := release(ctx, x.c, x.d, o, x.owner.GetUID())
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsInvalid(err) {
		x.errs = append(x.errs, fmt.Errorf("cannot release %s %s: %w", x.d.Kind, object.KeyOf(o), err))
	}
}

// adopt makes an orphan that matches the owner's; nil when it did not.
func (x *claiming) adopt(ctx context.Context, o object.Object) object.Object {
	if x.owner.GetDeletionTimestamp() != nil || o.GetDeletionTimestamp() != nil || x.refused {
		return nil
	}
	kind := x.c.Scheme().ByObject(x.owner)
	var adopted object.Object
	var err error
	if !x.asked {
		err = mayAdopt(ctx, x.c, kind, x.owner)
		x.asked, x.refused = true, err != nil
	}
	if err == nil {
		adopted, err = adopt(ctx, x.c, x.d, o, metav1.NewControllerRef(x.owner, kind.GVK()))
	}
	switch {
	case err == nil:
		return adopted
	case x.refused || !apierrors.IsNotFound(err):
		x.errs = append(x.errs, fmt.Errorf("cannot adopt %s %s: %w", x.d.Kind, object.KeyOf(o), err))
	}
	return nil
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
