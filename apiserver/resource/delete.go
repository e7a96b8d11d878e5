package resource

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/object"
	"sagong/store"
)

// Delete removes an object, or sets about it: finalizers and a grace period
// make it stay, marked as being deleted. gone says which.
func (e *Engine) Delete(ctx context.Context, c Caller, t Target, o *metav1.DeleteOptions) (it Item, gone bool, err error) {
	warnDelete(c, t, o)
	r := e.run(ctx, e.delete(c, t, o, nil))
	return r.item, r.gone, r.err
}

// warnDelete warns who leaves what becomes of dependents to a kind's default.
func warnDelete(c Caller, t Target, o *metav1.DeleteOptions) {
	if t.DeleteWarning != "" && o.PropagationPolicy == nil && o.OrphanDependents == nil {
		c.warn(t.DeleteWarning)
	}
}

// delete is one deletion; asked are the options of the deletion of a collection
// that it is part of.
func (e *Engine) delete(c Caller, t Target, o, asked *metav1.DeleteOptions) attempt {
	checked := false
	return func(ctx context.Context) (step, error) {
		if !checked {
			if errs := validation.ValidateDeleteOptions(o); len(errs) > 0 {
				return step{}, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, "", errs)
			}
			checked = true
		}
		rec, old, err := e.read(ctx, t)
		if err != nil {
			return step{}, err
		}
		if o.IgnoreStoreReadErrorWithClusterBreakingPotential != nil && *o.IgnoreStoreReadErrorWithClusterBreakingPotential {
			// For what cannot be read, which the store would not have opened with.
			return step{}, storageError(t, "unsafe deletion is not allowed because the object is decodable from storage")
		}
		if err := precondition(t, o, old); err != nil {
			return step{}, err
		}
		a := e.attributes(c, t, Delete, nil, old, o, dryRun(o.DryRun))
		if asked != nil {
			a.Options, a.Collection = asked, true
		}
		if err := e.admit(ctx, a); err != nil {
			return step{}, err
		}
		if err := e.validateAdmission(ctx, a); err != nil {
			return step{}, err
		}
		obj, remove := e.decideDelete(t, o, old)
		s := step{
			kind: t.Kind, admitted: a,
			conflict: func(f *store.OpError) (bool, error) {
				if errors.Is(f, store.ErrNotFound) {
					return false, apierrors.NewNotFound(t.gr(), t.Name)
				}
				return true, apierrors.NewConflict(t.gr(), t.Name, errors.New(modifiedText))
			},
		}
		switch {
		case remove:
			s.gone = true
			if dryRun(o.DryRun) {
				s.item = e.item(t.Kind, rec)
				return s, nil
			}
			s.op, s.obj = e.remove(t.Kind, rec, obj)
			if err := e.accompany(ctx, &s, old, nil); err != nil {
				e.settled(ctx, a, err)
				return step{}, err
			}
			return s, nil
		case obj == old:
			s.item = e.item(t.Kind, rec)
			return s, nil
		case dryRun(o.DryRun):
			s.item = Item{e: e, k: t.Kind, obj: obj, rev: object.Revision(rec.ModRev)}
			return s, nil
		}
		obj.SetResourceVersion("")
		value, err := t.Encode(obj)
		if err != nil {
			return step{}, apierrors.NewInternalError(err)
		}
		s.obj = obj
		s.op = e.put(t.Kind, rec.Key, rec.ModRev, obj, value)
		return s, nil
	}
}

func precondition(t Target, o *metav1.DeleteOptions, old object.Object) error {
	p := o.Preconditions
	if p == nil {
		return nil
	}
	// Upstream names the kind here, not the resource.
	gr := schema.GroupResource{Group: t.gk().Group, Resource: t.gk().Kind}
	if p.UID != nil && *p.UID != old.GetUID() {
		return apierrors.NewConflict(gr, t.Name, fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *p.UID, old.GetUID()))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != old.GetResourceVersion() {
		return apierrors.NewConflict(gr, t.Name, fmt.Errorf("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified", *p.ResourceVersion, old.GetResourceVersion()))
	}
	return nil
}

// decideDelete says what a delete makes of an object: its removal, a changed
// object that stays for now, or the old one itself when nothing is to change.
func (e *Engine) decideDelete(t Target, opts *metav1.DeleteOptions, old object.Object) (obj object.Object, remove bool) {
	o := opts.DeepCopy()
	if o.GracePeriodSeconds != nil && *o.GracePeriodSeconds < 0 {
		one := int64(1)
		o.GracePeriodSeconds = &one
	}
	now := metav1.Unix(e.now().Unix(), 0)
	// Shallow: only metadata is replaced, field by field, but for namespaces.
	obj = object.ShallowCopy(old)

	graceful := false
	if old.GetDeletionTimestamp() != nil {
		if left := old.GetDeletionGracePeriodSeconds(); left != nil && *left != 0 {
			if o.GracePeriodSeconds == nil || *o.GracePeriodSeconds >= *left {
				return old, false // being deleted already; time may only be shortened
			}
			begun := old.GetDeletionTimestamp().Add(-time.Duration(*left) * time.Second)
			at := metav1.NewTime(begun.Add(time.Duration(*o.GracePeriodSeconds) * time.Second))
			obj.SetDeletionTimestamp(&at)
			obj.SetDeletionGracePeriodSeconds(o.GracePeriodSeconds)
			graceful = true
		}
	} else if t.BeforeDelete != nil && t.BeforeDelete(old, o) && o.GracePeriodSeconds != nil {
		at := metav1.NewTime(now.Add(time.Duration(*o.GracePeriodSeconds) * time.Second))
		obj.SetDeletionTimestamp(&at)
		obj.SetDeletionGracePeriodSeconds(o.GracePeriodSeconds)
		if g := obj.GetGeneration(); g > 0 {
			obj.SetGeneration(g + 1)
		}
		graceful = true
	}

	finalizers, changed := e.deletionFinalizers(t, o, old)
	if t.BeginDelete != nil && old.GetDeletionTimestamp() == nil {
		obj.SetFinalizers(slices.Clone(finalizers))
		t.BeginDelete(obj)
		finalizers, changed = obj.GetFinalizers(), true
	}
	if changed {
		obj.SetFinalizers(finalizers)
	}
	waits := len(finalizers) > 0 || len(namespaceFinalizers(old)) > 0
	if !waits {
		if graceful && *o.GracePeriodSeconds > 0 {
			return obj, false
		}
		return obj, true
	}
	if !graceful {
		zero := int64(0)
		if old.GetDeletionTimestamp() == nil {
			if g := obj.GetGeneration(); g > 0 {
				obj.SetGeneration(g + 1)
			}
			obj.SetDeletionTimestamp(&now)
		} else if !changed && old.GetDeletionGracePeriodSeconds() != nil {
			return old, false
		}
		if len(namespaceFinalizers(old)) == 0 {
			obj.SetDeletionGracePeriodSeconds(&zero)
		}
	}
	if ns, ok := obj.(*corev1.Namespace); ok {
		if old.GetDeletionTimestamp() != nil && ns.Status.Phase == corev1.NamespaceTerminating && !changed {
			return old, false
		}
		ns.Status.Phase = corev1.NamespaceTerminating
	}
	return obj, false
}

// deletionFinalizers applies the propagation policy: orphaning and foreground
// deletion are finalizers that the garbage collector takes away when it is done.
func (e *Engine) deletionFinalizers(t Target, o *metav1.DeleteOptions, old object.Object) ([]string, bool) {
	has := old.GetFinalizers()
	orphan := slices.Contains(has, metav1.FinalizerOrphanDependents)
	foreground := slices.Contains(has, metav1.FinalizerDeleteDependents)
	wantOrphan, wantForeground := orphan, foreground
	switch {
	case t.Namespaced && t.Resource == "events" || t.Virtual:
		wantOrphan, wantForeground = false, false
	case o.OrphanDependents != nil:
		wantOrphan = *o.OrphanDependents
		wantForeground = false
	case o.PropagationPolicy != nil:
		wantOrphan = *o.PropagationPolicy == metav1.DeletePropagationOrphan
		wantForeground = *o.PropagationPolicy == metav1.DeletePropagationForeground
	case orphan || foreground:
	default:
		wantOrphan = t.DefaultPropagation == metav1.DeletePropagationOrphan
		wantForeground = t.DefaultPropagation == metav1.DeletePropagationForeground
	}
	if wantOrphan == orphan && wantForeground == foreground {
		return has, false
	}
	kept := make([]string, 0, len(has)+1)
	for _, f := range has {
		if f != metav1.FinalizerOrphanDependents && f != metav1.FinalizerDeleteDependents {
			kept = append(kept, f)
		}
	}
	if wantOrphan {
		kept = append(kept, metav1.FinalizerOrphanDependents)
	}
	if wantForeground {
		kept = append(kept, metav1.FinalizerDeleteDependents)
	}
	return kept, true
}

// deleteBatch is how many objects a collection delete takes in one commit.
const deleteBatch = 512

// DeleteCollection deletes all that a list selects and returns them.
func (e *Engine) DeleteCollection(ctx context.Context, c Caller, t Target, o *metav1.DeleteOptions, list ListOptions) (List, error) {
	c = c.together()
	warnDelete(c, t, o)
	l, err := e.List(ctx, t, list)
	if err != nil {
		return List{}, err
	}
	out := List{Revision: l.Revision, Continue: l.Continue, Remaining: l.Remaining, Items: make([]Item, 0, len(l.Items))}
	for part := range slices.Chunk(l.Items, deleteBatch) {
		attempts := make([]attempt, len(part))
		for n, it := range part {
			m, err := it.sharedMeta()
			if err != nil {
				return List{}, apierrors.NewInternalError(err)
			}
			one := t
			one.Namespace, one.Name = m.GetNamespace(), m.GetName()
			opts := o.DeepCopy()
			if opts.Preconditions == nil {
				uid := m.GetUID()
				opts.Preconditions = &metav1.Preconditions{UID: &uid}
			}
			attempts[n] = e.delete(c, one, opts, o)
		}
		for _, r := range e.runAll(ctx, attempts) {
			switch {
			case r.err == nil:
				out.Items = append(out.Items, r.item)
			case apierrors.IsNotFound(r.err) || apierrors.IsConflict(r.err) && o.Preconditions == nil:
				// Somebody else was faster, which is as good.
			default:
				return out, r.err
			}
		}
	}
	return out, nil
}
