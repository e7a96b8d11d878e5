package cleanup

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

const (
	ofResource = "cleanup/resource" // migrations by the resource that they are of
	together   = 200                // objects written at a time
)

type migration struct {
	all *reconcile.View[*storagemigrationv1.StorageVersionMigration]
}

// NewStorageMigration returns the controller that writes all objects of a
// resource anew, so that each is stored in the version that its definition says
// now, and takes the others off the list of stored versions. One migration of a
// resource runs at a time, the oldest first.
func NewStorageMigration(h *reconcile.Hub) reconcile.Controller {
	c := &migration{reconcile.ViewOf[*storagemigrationv1.StorageVersionMigration](h)}
	c.all.Index(ofResource, func(m *storagemigrationv1.StorageVersionMigration) []string {
		return []string{m.Spec.Resource.String()}
	})
	return c
}

func (c *migration) Name() string { return "storage-version-migrator" }

func (c *migration) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.On(c.all, func(old, new *storagemigrationv1.StorageVersionMigration, enqueue func(object.Key)) {
		m := new
		if new == nil {
			m = old
		}
		for _, o := range c.all.By(ofResource, m.Spec.Resource.String()) {
			enqueue(object.KeyOf(o))
		}
	})}
}

func (c *migration) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.all.Definition().GVK().GroupKind(), Field: "status"}}
}

func is(m *storagemigrationv1.StorageVersionMigration, t storagemigrationv1.MigrationConditionType) bool {
	return meta.IsStatusConditionTrue(m.Status.Conditions, string(t))
}

func ended(m *storagemigrationv1.StorageVersionMigration) bool {
	return is(m, storagemigrationv1.MigrationSucceeded) || is(m, storagemigrationv1.MigrationFailed)
}

func (c *migration) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	m, ok := c.all.Get("", key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	running := meta.FindStatusCondition(m.Status.Conditions, string(storagemigrationv1.MigrationRunning)) != nil
	switch {
	case ended(m) && !running:
		return reconcile.Result{}, nil
	case ended(m):
		if err := c.finish(ctx, w, m); err != nil {
			return reconcile.Result{}, err
		}
		m = m.DeepCopy()
		meta.RemoveStatusCondition(&m.Status.Conditions, string(storagemigrationv1.MigrationRunning))
		_, err := client.UpdateStatus(ctx, w, m)
		return reconcile.Result{}, ignoreMissing(err)
	case c.waits(m):
		return reconcile.Result{}, nil // its turn comes with the end of the one before
	case !running:
		return reconcile.Result{}, c.begin(ctx, w, m)
	}
	return reconcile.Result{}, c.run(ctx, w, m)
}

// waits tells whether another migration of the resource goes first.
func (c *migration) waits(m *storagemigrationv1.StorageVersionMigration) bool {
	return slices.ContainsFunc(c.all.By(ofResource, m.Spec.Resource.String()), func(o *storagemigrationv1.StorageVersionMigration) bool {
		return !ended(o) && o.Name != m.Name && (is(o, storagemigrationv1.MigrationRunning) || !is(m, storagemigrationv1.MigrationRunning) &&
			cmp.Or(o.CreationTimestamp.Compare(m.CreationTimestamp.Time), strings.Compare(o.Name, m.Name)) < 0)
	})
}

func (c *migration) begin(ctx context.Context, w client.Client, m *storagemigrationv1.StorageVersionMigration) error {
	m = m.DeepCopy()
	d := definition(w, m.Spec.Resource)
	if d == nil {
		return say(ctx, w, m, storagemigrationv1.MigrationFailed, "StorageVersionMigrationFailed", "resource does not exist in discovery")
	}
	err := c.mark(ctx, w, m, func(crd *apiextensionsv1.CustomResourceDefinition) {
		setMigrating(crd, apiextensionsv1.ConditionTrue, "MigrationRunning", fmt.Sprintf("Migration %s is running", m.Name))
	})
	if err != nil {
		return err
	}
	list, err := w.List(ctx, d, "", client.ListOptions{FieldSelector: "metadata.name=-"}) // nothing: only the revision is wanted
	if err != nil {
		return err
	}
	m.Status.ResourceVersion = list.Revision.String()
	return say(ctx, w, m, storagemigrationv1.MigrationRunning, "MigrationRunning", "The migration is running")
}

// run writes every object as it is. What others write or delete meanwhile is
// migrated by that.
func (c *migration) run(ctx context.Context, w client.Client, m *storagemigrationv1.StorageVersionMigration) error {
	m = m.DeepCopy()
	d := definition(w, m.Spec.Resource)
	if d == nil {
		return say(ctx, w, m, storagemigrationv1.MigrationFailed, "StorageVersionMigrationFailed", "resource not found")
	}
	if d.Dynamic != nil { // others have had one stored version for ever
		list, err := w.List(ctx, d, "", client.ListOptions{})
		if err != nil {
			return err
		}
		for part := range slices.Chunk(list.Items, together) {
			writes := make([]client.Write, len(part))
			for i, o := range part {
				writes[i] = client.Write{Op: client.OpUpdate, Definition: d, Object: o.DeepCopyObject().(object.Object)}
			}
			for _, r := range w.Batch(ctx, writes) {
				switch {
				case r.Err == nil, apierrors.IsConflict(r.Err), apierrors.IsNotFound(r.Err):
				case passing(r.Err):
					return fmt.Errorf("cannot migrate %s: %w", m.Spec.Resource, r.Err)
				default:
					return say(ctx, w, m, storagemigrationv1.MigrationFailed, "StorageVersionMigrationFailed", "migration encountered unhandled error")
				}
			}
		}
	}
	return say(ctx, w, m, storagemigrationv1.MigrationSucceeded, "StorageVersionMigrationSucceeded", "")
}

// passing tells errors that another try may not meet.
func passing(err error) bool {
	return apierrors.IsTooManyRequests(err) || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) || apierrors.IsServiceUnavailable(err) ||
		apierrors.IsInternalError(err) || apierrors.ReasonForError(err) == metav1.StatusReasonUnknown
}

// finish notes in the definition of a custom resource how its migration ended.
func (c *migration) finish(ctx context.Context, w client.Client, m *storagemigrationv1.StorageVersionMigration) error {
	return c.mark(ctx, w, m, func(crd *apiextensionsv1.CustomResourceDefinition) {
		x := apihelpers.FindCRDCondition(crd, apiextensionsv1.StorageMigrating)
		same := x != nil && x.ObservedGeneration == crd.Generation
		if !is(m, storagemigrationv1.MigrationSucceeded) {
			setMigrating(crd, apiextensionsv1.ConditionFalse, "MigrationFailed", "The migration has failed")
		} else if !same {
			setMigrating(crd, apiextensionsv1.ConditionFalse, "MigrationSucceeded", "The migration has succeeded but the stored versions have not been updated due to a generation mismatch")
		} else {
			setMigrating(crd, apiextensionsv1.ConditionFalse, "MigrationSucceeded", "The migration has succeeded and the stored versions have been updated")
		}
		if !same || !is(m, storagemigrationv1.MigrationSucceeded) {
			return
		}
		for _, v := range crd.Spec.Versions {
			if v.Storage {
				crd.Status.StoredVersions = []string{v.Name}
			}
		}
	})
}

// mark changes the status of the definition of a migration's resource, if it is a
// custom one.
func (c *migration) mark(ctx context.Context, w client.Client, m *storagemigrationv1.StorageVersionMigration, change func(*apiextensionsv1.CustomResourceDefinition)) error {
	for {
		crd, err := client.Get[*apiextensionsv1.CustomResourceDefinition](ctx, w, "", m.Spec.Resource.Resource+"."+m.Spec.Resource.Group)
		if err != nil {
			return ignoreMissing(err)
		}
		crd = crd.DeepCopy()
		change(crd)
		if _, err = client.UpdateStatus(ctx, w, crd); !apierrors.IsConflict(err) {
			return ignoreMissing(err)
		}
	}
}

func setMigrating(crd *apiextensionsv1.CustomResourceDefinition, status apiextensionsv1.ConditionStatus, reason, message string) {
	x := apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.StorageMigrating, Status: status, Reason: reason, Message: message,
		ObservedGeneration: crd.Generation, LastTransitionTime: metav1.NewTime(time.Now()),
	}
	apihelpers.SetCRDCondition(crd, x)
	apihelpers.FindCRDCondition(crd, apiextensionsv1.StorageMigrating).ObservedGeneration = crd.Generation
}

// say adds a condition to a migration.
func say(ctx context.Context, w client.Client, m *storagemigrationv1.StorageVersionMigration, t storagemigrationv1.MigrationConditionType, reason, message string) error {
	if r := meta.FindStatusCondition(m.Status.Conditions, string(storagemigrationv1.MigrationRunning)); r != nil && t != storagemigrationv1.MigrationRunning {
		over := *r
		over.Status = metav1.ConditionFalse // it cannot run and have ended
		meta.SetStatusCondition(&m.Status.Conditions, over)
	}
	meta.SetStatusCondition(&m.Status.Conditions, metav1.Condition{Type: string(t), Status: metav1.ConditionTrue, Reason: reason, Message: message})
	_, err := client.UpdateStatus(ctx, w, m)
	return ignoreMissing(err)
}

// definition finds a stored kind that the server itself serves.
func definition(w client.Client, r metav1.GroupResource) *object.Definition {
	for _, d := range w.Scheme().All() {
		if d.GR() == (schema.GroupResource{Group: r.Group, Resource: r.Resource}) && !d.Virtual && !d.Gone() {
			return d
		}
	}
	return nil
}
