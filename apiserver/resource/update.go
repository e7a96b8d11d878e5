package resource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/object"
	"sagong/store"
)

const modifiedText = "the object has been modified; please apply your changes to the latest version and try again"

// change makes the new object out of the present one, which is shared and
// immutable, or nil when there is none. The result belongs to the engine. It
// is called anew for every attempt.
type change func(ctx context.Context, old object.Object) (object.Object, error)

// updateOptions are what the ways of changing an object differ in.
type updateOptions struct {
	options      runtime.Object // metav1 options, for admission
	dryRun       bool
	fieldManager string
	// create lets a missing object be created.
	create bool
	// unconditional writes win over others: a change is made again on the new
	// state. It is so when the caller named no resourceVersion.
	uid types.UID // of what is applied, empty for none
	rev string    // precondition, empty for none
	// current means that a change which names no resourceVersion carries that of
	// the object it was made from (patches): it is tried again on a newer one.
	current bool
	// patch means that the object was made from the present one.
	patch bool
	// scale means that the write came through the scale subresource, which the
	// managed fields name.
	scale bool
	// tracked means that change has dealt with managed fields already (apply).
	tracked bool
}

// Update replaces an object. obj is of the storage version and belongs to the
// engine from now on. It reports whether the object was created.
func (e *Engine) Update(ctx context.Context, c Caller, t Target, obj object.Object, o *metav1.UpdateOptions) (Item, bool, error) {
	if err := sameName(t, obj); err != nil {
		return Item{}, false, err
	}
	created := false
	r := e.run(ctx, e.replace(c, t, obj, o, &created))
	return r.item, created, r.err
}

func (e *Engine) replace(c Caller, t Target, obj object.Object, o *metav1.UpdateOptions, created *bool) attempt {
	if t.Default != nil {
		t.Default(obj)
	}
	first := true
	ch := func(_ context.Context, old object.Object) (object.Object, error) {
		if first && obj.GetResourceVersion() != "" {
			first = false
			return obj, nil
		}
		return obj.DeepCopyObject().(object.Object), nil
	}
	return e.change(c, t, ch, updateOptions{
		options: o, dryRun: dryRun(o.DryRun), fieldManager: o.FieldManager, create: t.Subresource == "" && t.AllowCreateOnUpdate,
	}, created)
}

// change is the attempt of every write to an object that exists.
func (e *Engine) change(c Caller, t Target, ch change, o updateOptions, created *bool) attempt {
	p, isPart := e.parts[t.partName()]
	var creating attempt
	return func(ctx context.Context) (step, error) {
		if creating != nil {
			return creating(ctx)
		}
		rec, old, err := e.read(ctx, t)
		if err != nil {
			if !apierrors.IsNotFound(err) || !o.create {
				return step{}, err
			}
			obj, chErr := ch(ctx, nil)
			if chErr != nil {
				return step{}, chErr
			}
			switch {
			case o.uid != "":
				return step{}, apierrors.NewConflict(t.gr(), t.Name, fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found", o.uid))
			case obj.GetUID() != "" && !o.tracked:
				return step{}, otherUID(t, obj.GetUID(), "")
			}
			if obj.GetName() == "" {
				obj.SetName(t.Name)
			}
			obj.SetResourceVersion("")
			*created = true
			opts := &metav1.CreateOptions{DryRun: dryRunValues(o.dryRun), FieldManager: o.fieldManager}
			creating = e.createWith(c, t, obj, opts, o.tracked)
			return creating(ctx)
		}
		*created = false
		obj, err := ch(ctx, old)
		if err != nil {
			return step{}, err
		}
		if obj == nil { // the change wants nothing changed
			return step{item: e.item(t.Kind, rec), kind: t.Kind}, nil
		}
		if err := checkUpdate(t, o, obj, old); err != nil {
			return step{}, err
		}
		conditional := (obj.GetResourceVersion() != "" || o.rev != "") && !(o.current && obj.GetResourceVersion() == old.GetResourceVersion())
		obj.SetResourceVersion(old.GetResourceVersion())
		a, err := e.prepareUpdate(ctx, c, t, p, isPart, obj, old, o)
		if err != nil {
			return step{}, err
		}
		obj.SetResourceVersion("")
		value, err := e.encodeUpdate(t, obj, old, rec)
		if err != nil {
			e.settled(ctx, a, err)
			return step{}, err
		}
		shown, err := asStored(t, obj, value)
		if err != nil {
			e.settled(ctx, a, err)
			return step{}, err
		}
		if o.dryRun {
			shown.SetResourceVersion(old.GetResourceVersion())
			return step{item: Item{e: e, k: t.Kind, obj: shown, rev: object.Revision(rec.ModRev)}, admitted: a}, nil
		}
		s := step{
			kind: t.Kind, obj: shown, admitted: a,
			conflict: func(f *store.OpError) (bool, error) {
				if errors.Is(f, store.ErrNotFound) && !o.create {
					return false, apierrors.NewNotFound(t.gr(), t.Name)
				}
				return !conditional, apierrors.NewConflict(t.gr(), t.Name, errors.New(modifiedText))
			},
		}
		if emptied(t, obj, old) {
			// The last finalizer is gone from an object being deleted.
			s.gone = true
			var last object.Object
			s.op, last = e.remove(t.Kind, rec, obj)
			s.obj = last
			if err := e.accompany(ctx, &s, old, nil); err != nil {
				e.settled(ctx, a, err)
				return step{}, err
			}
			return s, nil
		}
		if bytes.Equal(value, rec.Value()) {
			return step{item: e.item(t.Kind, rec), kind: t.Kind, admitted: a}, nil
		}
		s.op = e.put(t.Kind, rec.Key, rec.ModRev, shown, value)
		if err := e.accompany(ctx, &s, old, obj); err != nil {
			e.settled(ctx, a, err)
			return step{}, err
		}
		return s, nil
	}
}

func dryRunValues(dry bool) []string {
	if dry {
		return []string{metav1.DryRunAll}
	}
	return nil
}

// sameName makes sure the object is the one that the request names.
func sameName(t Target, obj object.Object) error {
	if err := matchNamespace(&t, obj); err != nil {
		return err
	}
	switch obj.GetName() {
	case t.Name:
		return nil
	case "":
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", t.Name))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), t.Name))
}

// checkUpdate judges what the request says about the object it is for.
func checkUpdate(t Target, o updateOptions, obj, old object.Object) error {
	if err := sameName(t, obj); err != nil {
		return err
	}
	// In a whole object the identifier is a precondition; of a patch it is a change,
	// which validation refuses.
	if uid := obj.GetUID(); uid != "" && uid != old.GetUID() && !o.patch {
		return otherUID(t, uid, old.GetUID())
	}
	if o.rev != "" && o.rev != old.GetResourceVersion() {
		return apierrors.NewConflict(t.gr(), t.Name, errors.New(modifiedText))
	}
	switch rv := obj.GetResourceVersion(); {
	case rv == "" || rv == "0":
		obj.SetResourceVersion("")
		if t.RefuseUnconditionalUpdate && o.rev == "" {
			// Upstream's store says so, which knows the resource and not the kind.
			return apierrors.NewInvalid(schema.GroupKind{Group: t.Group, Kind: t.Resource}, t.Name, field.ErrorList{
				field.Invalid(metadataPath.Child("resourceVersion"), uint64(0), "must be specified for an update"),
			})
		}
	case rv != old.GetResourceVersion():
		if _, err := strconv.ParseUint(rv, 10, 64); err != nil {
			return err // upstream answers 500 with the bare text
		}
		return apierrors.NewConflict(t.gr(), t.Name, errors.New(modifiedText))
	}
	return nil
}

// otherUID is upstream's answer to a write meant for another object of the name,
// with the key that it has in upstream's storage.
func otherUID(t Target, uid, present types.UID) error {
	return storageError(t, fmt.Sprintf("Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, present))
}

func storageError(t Target, text string) error {
	key := "/registry/" + t.upstreamPrefix()
	if t.Namespaced {
		key += "/" + t.Namespace
	}
	return apierrors.NewConflict(t.gr(), t.Name, fmt.Errorf(
		"StorageError: invalid object, Code: 4, Key: %s/%s, ResourceVersion: 0, AdditionalErrorMsg: %s", key, t.Name, text))
}

// upstreamPrefix is where upstream keeps objects of a kind.
func (k *Kind) upstreamPrefix() string {
	switch k.GR() {
	case schema.GroupResource{Resource: "replicationcontrollers"}:
		return "controllers"
	case schema.GroupResource{Resource: "endpoints"}:
		return "services/endpoints"
	case schema.GroupResource{Resource: "services"}:
		return "services/specs"
	case schema.GroupResource{Resource: "nodes"}:
		return "minions"
	case schema.GroupResource{Group: "networking.k8s.io", Resource: "ingresses"}:
		return "ingress"
	}
	if k.Custom() || k.Group == "apiextensions.k8s.io" || k.Group == "apiregistration.k8s.io" {
		return k.Group + "/" + k.Resource
	}
	return k.Resource
}

// prepareUpdate does everything between the new object and its bytes.
func (e *Engine) prepareUpdate(ctx context.Context, c Caller, t Target, p part, isPart bool, obj, old object.Object, o updateOptions) (_ *Attributes, err error) {
	dedupOwners(c, obj, o.patch)
	if !o.tracked {
		if err := e.trackUpdate(c, t, isPart, old, obj, o); err != nil {
			return nil, err
		}
	}
	a := e.attributes(c, t, Update, obj, old, o.options, o.dryRun)
	if !o.scale { // else admission has seen the Scale, and asks about nothing else
		if err := e.admit(ctx, a); err != nil {
			return nil, err
		}
		defer e.refused(ctx, a, &err)
		if err := matchNamespace(&t, obj); err != nil {
			return nil, err
		}
	}
	keepSystemFields(obj, old)
	switch {
	case isPart:
		if p.prepare != nil {
			p.prepare(ctx, t, obj, old)
		}
	default:
		if t.Status {
			object.KeepStatus(obj, old)
		}
		if t.PrepareUpdate != nil {
			t.PrepareUpdate(ctx, obj, old)
		}
	}
	// A status write shares its spec with the published object: it was defaulted
	// when it was stored, and must not be touched.
	if t.Default != nil && !(isPart && t.Subresource == "status") {
		t.Default(obj)
	}
	rule := t.ValidateUpdate
	if isPart {
		rule = p.rule(t)
	} else if v := t.served(); v != nil && v.ValidateUpdate != nil {
		rule = v.ValidateUpdate
	}
	if d := t.Dynamic; d != nil && d.ValidateUpdate != nil {
		rule = func(obj, old object.Object) field.ErrorList {
			return d.ValidateUpdate(obj, old, isPart && t.Subresource == "status", c.warn)
		}
	}
	if err := e.validateUpdate(t, obj, old, rule); err != nil {
		return nil, err
	}
	if t.Warnings != nil && !isPart {
		c.warn(t.Warnings(obj, old)...)
	}
	if !o.scale {
		if err := e.validateAdmission(ctx, a); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// keepSystemFields puts back what no client may change.
func keepSystemFields(obj, old object.Object) {
	if obj.GetUID() == "" {
		obj.SetUID(old.GetUID())
	}
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	obj.SetGeneration(old.GetGeneration())
	obj.SetSelfLink("")
	// To set them where they are not is no update, and validation says so.
	if at := old.GetDeletionTimestamp(); at != nil {
		obj.SetDeletionTimestamp(at)
	}
	if grace := old.GetDeletionGracePeriodSeconds(); grace != nil && obj.GetDeletionGracePeriodSeconds() == nil {
		obj.SetDeletionGracePeriodSeconds(grace)
	}
}

// encodeUpdate encodes obj and counts the generation up when what it counts changed.
func (e *Engine) encodeUpdate(t Target, obj, old object.Object, rec *store.Record) ([]byte, error) {
	value, err := t.Encode(obj)
	if err != nil {
		return nil, encodeError(t, err)
	}
	counts := false
	if d := t.Definition; d.Generation && t.Subresource != "status" {
		if counts = !t.SpecEqual(value, rec.Value()); d.NewGeneration != nil {
			counts = d.NewGeneration(obj, old, counts)
		}
	}
	if counts {
		obj.SetGeneration(old.GetGeneration() + 1)
		if value, err = t.Encode(obj); err != nil {
			return nil, encodeError(t, err)
		}
	}
	return value, nil
}

// emptied reports whether an update leaves an object that is being deleted with
// nothing to wait for.
func emptied(t Target, obj, old object.Object) bool {
	if old.GetDeletionTimestamp() == nil || len(obj.GetFinalizers()) > 0 {
		return false
	}
	if g := old.GetDeletionGracePeriodSeconds(); g != nil && *g != 0 {
		return false
	}
	return len(namespaceFinalizers(obj)) == 0
}
