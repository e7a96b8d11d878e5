package resource

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"

	"sagong/object"
	"sagong/store"
)

const (
	// maxGeneratedBase leaves room for the suffix within a DNS label.
	maxGeneratedBase = 58
	suffixLength     = 5
	// maxGenerateTries bounds the names tried when generated ones are taken.
	maxGenerateTries = 8
)

func generateName(base string) string {
	if len(base) > maxGeneratedBase {
		base = base[:maxGeneratedBase]
	}
	return base + rand.String(suffixLength)
}

// Create writes a new object. obj is of the storage version and belongs to the
// engine from now on.
func (e *Engine) Create(ctx context.Context, c Caller, t Target, obj object.Object, o *metav1.CreateOptions) (Item, error) {
	r := e.run(ctx, e.create(c, t, obj, o))
	return r.item, r.err
}

func (e *Engine) create(c Caller, t Target, obj object.Object, o *metav1.CreateOptions) attempt {
	return e.createWith(c, t, obj, o, false)
}

// createWith is create; tracked means that obj has its managed fields (apply).
func (e *Engine) createWith(c Caller, t Target, obj object.Object, o *metav1.CreateOptions, tracked bool) attempt {
	prepared, tries := false, 0
	var admitted *Attributes
	anew := func() {}
	if t.companions != nil {
		first, given := t, obj.DeepCopyObject().(object.Object)
		anew = func() { t, obj, prepared = first, given.DeepCopyObject().(object.Object), false }
	}
	return func(ctx context.Context) (step, error) {
		if !prepared {
			a, err := e.prepareCreate(ctx, c, &t, obj, o, tracked)
			if err != nil {
				return step{}, err
			}
			prepared, admitted = true, a
		} else if obj.GetGenerateName() != "" {
			obj.SetName(generateName(obj.GetGenerateName()))
		}
		t.Name = obj.GetName()
		value, err := t.Encode(obj)
		if err != nil {
			e.settled(ctx, admitted, err)
			return step{}, encodeError(t, err)
		}
		shown, err := asStored(t, obj, value)
		if err != nil {
			e.settled(ctx, admitted, err)
			return step{}, err
		}
		if dryRun(o.DryRun) {
			if _, err := e.Get(ctx, t, 0); err == nil {
				err := e.alreadyExists(ctx, t)
				e.settled(ctx, admitted, err)
				return step{}, err
			}
			return step{item: Item{e: e, k: t.Kind, obj: shown}, admitted: admitted}, nil
		}
		s := step{
			op: e.put(t.Kind, t.key(), 0, shown, value), kind: t.Kind, obj: shown, admitted: admitted, held: true, anew: anew,
			conflict: func(*store.OpError) (bool, error) {
				tries++
				if obj.GetGenerateName() != "" && t.generated && tries < maxGenerateTries {
					return true, nil
				}
				if t.generated {
					return false, apierrors.NewGenerateNameConflict(t.gr(), t.Name, 1)
				}
				return false, e.alreadyExists(ctx, t)
			},
		}
		if err := e.accompany(ctx, &s, nil, obj); err != nil {
			e.settled(ctx, admitted, err)
			return step{}, err
		}
		return s, nil
	}
}

// asStored is what readers see of an object that is stored as value. In another
// version than the stored one that is what conversion there and back leaves.
func asStored(t Target, obj object.Object, value []byte) (object.Object, error) {
	if t.Dynamic == nil || t.Dynamic.Storage == t.Definition.Version {
		return obj, nil
	}
	shown, err := t.Decode(value, 0)
	if err != nil {
		return nil, err
	}
	shown.SetResourceVersion(obj.GetResourceVersion())
	return shown, nil
}

// encodeError is the answer where an object cannot be brought into its stored
// form. Of a conversion upstream gives the bare text.
func encodeError(t Target, err error) error {
	if t.Dynamic != nil {
		return err
	}
	return apierrors.NewInternalError(err)
}

// alreadyExists says that a name is taken, and whether that is about to end.
func (e *Engine) alreadyExists(ctx context.Context, t Target) error {
	err := apierrors.NewAlreadyExists(t.gr(), t.Name)
	if _, old, readErr := e.read(ctx, t); readErr == nil && old.GetDeletionTimestamp() != nil {
		err.ErrStatus.Message = "object is being deleted: " + err.ErrStatus.Message
	}
	return err
}

// prepareCreate does everything that comes before the write.
func (e *Engine) prepareCreate(ctx context.Context, c Caller, t *Target, obj object.Object, o *metav1.CreateOptions, tracked bool) (_ *Attributes, err error) {
	if err := matchNamespace(t, obj); err != nil {
		return nil, err
	}
	if t.Namespaced && obj.GetNamespace() == "" {
		return nil, apierrors.NewBadRequest("an empty namespace may not be set during creation")
	}
	if rv := obj.GetResourceVersion(); rv != "" && rv != "0" {
		return nil, &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusInternalServerError,
			Message: "resourceVersion should not be set on objects to be created",
		}}
	}
	if d := t.Dynamic; d != nil && d.Terminating {
		return nil, apierrors.NewForbidden(t.gr(), obj.GetName(), errors.New("create not allowed while custom resource definition is terminating"))
	}
	// These it gets when admission has seen it.
	obj.SetResourceVersion("")
	obj.SetCreationTimestamp(metav1.Time{})
	obj.SetUID("")
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetSelfLink("")
	t.generated = obj.GetName() == "" && obj.GetGenerateName() != ""
	if t.Name != "" && obj.GetName() == "" {
		obj.SetName(t.Name)
	}
	if t.Default != nil {
		t.Default(obj)
	}
	dedupOwners(c, obj, false)
	if !tracked {
		if err := e.track(c, *t, t.New(), obj, o.FieldManager); err != nil {
			return nil, err
		}
	}
	a := e.attributes(c, *t, Create, obj, nil, o, dryRun(o.DryRun))
	a.Namespace, a.Name = obj.GetNamespace(), obj.GetName()
	if err := e.admit(ctx, a); err != nil {
		return nil, err
	}
	defer e.refused(ctx, a, &err)
	// Admission may have put in another object of the same kind.
	if replaced, ok := a.Object.(object.Object); ok && replaced != obj {
		return nil, apierrors.NewInternalError(errors.New("admission replaced the object instead of changing it"))
	}
	if err := matchNamespace(t, obj); err != nil {
		return nil, err
	}
	obj.SetCreationTimestamp(metav1.Unix(e.now().Unix(), 0))
	obj.SetUID(types.UID(uuid.NewString()))
	if t.Default != nil && e.admission != nil {
		t.Default(obj)
	}
	if t.generated {
		obj.SetName(generateName(obj.GetGenerateName()))
	}
	if t.Definition.Generation {
		obj.SetGeneration(1)
	} else if !t.Custom() {
		obj.SetGeneration(0)
	}
	if t.PrepareCreate != nil {
		t.PrepareCreate(ctx, obj)
	}
	t.Name = obj.GetName()
	a.Name = t.Name
	if err := e.validateNew(*t, obj); err != nil {
		return nil, err
	}
	if t.Warnings != nil {
		c.warn(t.Warnings(obj, nil)...)
	}
	if err := e.validateAdmission(ctx, a); err != nil {
		return nil, err
	}
	return a, nil
}

// matchNamespace makes sure the object is of the namespace of the request.
func matchNamespace(t *Target, obj object.Object) error {
	switch {
	case !t.Namespaced:
		obj.SetNamespace("")
	case obj.GetNamespace() == "":
		obj.SetNamespace(t.Namespace)
	case obj.GetNamespace() != t.Namespace:
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return nil
}

// dedupOwners drops owner references given twice. Of a patch upstream learns
// that only after admission, and says so.
func dedupOwners(c Caller, obj object.Object, patch bool) {
	owners := obj.GetOwnerReferences()
	if len(owners) < 2 {
		return
	}
	kept := make([]metav1.OwnerReference, 0, len(owners))
	for _, o := range owners {
		known := false
		for _, k := range kept {
			known = known || sameOwner(k, o)
		}
		if known {
			when := ""
			if patch {
				when = " after mutating admission happens"
			}
			c.warn(fmt.Sprintf(".metadata.ownerReferences contains duplicate entries%s; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: %v", when, o.UID))
			continue
		}
		kept = append(kept, o)
	}
	if len(kept) < len(owners) {
		obj.SetOwnerReferences(kept)
	}
}

func sameOwner(a, b metav1.OwnerReference) bool {
	same := func(x, y *bool) bool { return x == y || x != nil && y != nil && *x == *y }
	return a.UID == b.UID && a.Kind == b.Kind && a.Name == b.Name && a.APIVersion == b.APIVersion &&
		same(a.Controller, b.Controller) && same(a.BlockOwnerDeletion, b.BlockOwnerDeletion)
}
