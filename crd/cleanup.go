package crd

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// end deletes the objects of a definition that is being deleted, and lets the
// definition go when none is left.
func (c *controller) end(ctx context.Context, w client.Client, crd *apiextensionsv1.CustomResourceDefinition) (reconcile.Result, error) {
	if !apihelpers.CRDHasFinalizer(crd, apiextensionsv1.CustomResourceCleanupFinalizer) {
		return reconcile.Result{}, nil
	}
	next := crd.DeepCopy()
	terminating := func(status apiextensionsv1.ConditionStatus, reason, message string) {
		c.set(next, apiextensionsv1.CustomResourceDefinitionCondition{Type: apiextensionsv1.Terminating, Status: status, Reason: reason, Message: message})
	}
	if !apihelpers.IsCRDConditionTrue(crd, apiextensionsv1.Established) {
		terminating(apiextensionsv1.ConditionFalse, "NeverEstablished", "resource was never established")
		return reconcile.Result{}, c.release(ctx, w, crd, next)
	}
	// From now on nobody can create more.
	if err := c.registry.serve(crd, crd.Status.AcceptedNames); err != nil {
		return reconcile.Result{}, err
	}
	def, err := c.registry.stored(crd)
	if err != nil {
		return reconcile.Result{}, err
	}
	left, err := deleteAll(ctx, w, def)
	if err != nil {
		terminating(apiextensionsv1.ConditionTrue, "InstanceDeletionFailed", fmt.Sprintf("could not issue all deletes: %v", err))
		if werr := c.write(ctx, w, crd, next); werr != nil {
			return reconcile.Result{}, werr
		}
		return reconcile.Result{}, err
	}
	if left > 0 {
		terminating(apiextensionsv1.ConditionTrue, "InstanceDeletionInProgress", "CustomResource deletion is in progress")
		// Their finalizers are for others to remove; who waits long is asked less often.
		age := c.now().Sub(crd.DeletionTimestamp.Time)
		return reconcile.Result{After: min(max(age/4, 200*time.Millisecond), 15*time.Second)}, c.write(ctx, w, crd, next)
	}
	terminating(apiextensionsv1.ConditionFalse, "InstanceDeletionCompleted", "removed all instances")
	return reconcile.Result{}, c.release(ctx, w, crd, next)
}

func (c *controller) release(ctx context.Context, w client.Client, crd, next *apiextensionsv1.CustomResourceDefinition) error {
	apihelpers.CRDRemoveFinalizer(next, apiextensionsv1.CustomResourceCleanupFinalizer)
	return c.write(ctx, w, crd, next)
}

// deleteAll deletes every object of a kind and says how many are still there.
func deleteAll(ctx context.Context, w client.Client, def *object.Definition) (left int, err error) {
	l, err := w.List(ctx, def, "", client.ListOptions{})
	if err != nil || len(l.Items) == 0 {
		return 0, err
	}
	var writes []client.Write
	for _, o := range l.Items {
		if o.GetDeletionTimestamp() != nil {
			left++
			continue
		}
		target, uid := def.New(), o.GetUID()
		target.SetNamespace(o.GetNamespace())
		target.SetName(o.GetName())
		writes = append(writes, client.Write{Op: client.OpDelete, Definition: def, Object: target, Delete: metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &uid},
		}})
	}
	const batch = 500
	for start := 0; start < len(writes); start += batch {
		for _, r := range w.Batch(ctx, writes[start:min(start+batch, len(writes))]) {
			switch {
			case r.Err == nil:
				if o := r.Object; o != nil && len(o.GetFinalizers()) > 0 {
					left++
				}
			case apierrors.IsNotFound(r.Err):
			case apierrors.IsConflict(r.Err):
				left++
			default:
				err = r.Err
			}
		}
	}
	return left, err
}
