package volumes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"sagong/client"
	"sagong/kinds/storage"
	"sagong/object"
	"sagong/reconcile"
)

// localController provides the volumes of the built-in driver. It writes objects
// only: the node that a volume names makes the data when a pod first mounts it,
// and removes it when the object is on its way out. Keys with a namespace are
// claims, those without are volumes.
type localController struct {
	claims  *reconcile.View[*corev1.PersistentVolumeClaim]
	volumes *reconcile.View[*corev1.PersistentVolume]
	classes *reconcile.View[*storagev1.StorageClass]
	nodes   *reconcile.View[*corev1.Node]
	events  client.Recorder
}

// NewLocal returns the controller of the built-in driver's volumes.
func NewLocal(h *reconcile.Hub, events client.Recorder) reconcile.Controller {
	l := &localController{
		claims: claimView(h), volumes: volumeView(h), classes: reconcile.ViewOf[*storagev1.StorageClass](h),
		nodes: reconcile.ViewOf[*corev1.Node](h), events: events,
	}
	l.volumes.Index(byNode, func(v *corev1.PersistentVolume) []string {
		if n := v.Labels[storage.LocalNodeLabel]; n != "" {
			return []string{n}
		}
		return nil
	})
	return l
}

const byNode = "volumes.node" // local volumes by node

func (l *localController) Name() string { return "local-volume" }

func (l *localController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.On(l.claims, func(_, new *corev1.PersistentVolumeClaim, enqueue func(object.Key)) {
			if new != nil && ours(new) {
				enqueue(object.KeyOf(new))
			}
		}),
		reconcile.On(l.volumes, func(_, new *corev1.PersistentVolume, enqueue func(object.Key)) {
			if new != nil && new.Labels[storage.LocalNodeLabel] != "" {
				enqueue(object.KeyOf(new))
			}
		}),
		reconcile.On(l.nodes, func(old, new *corev1.Node, enqueue func(object.Key)) {
			if new == nil {
				for _, v := range l.volumes.By(byNode, old.Name) {
					enqueue(object.KeyOf(v))
				}
			}
		}),
		reconcile.Reads(l.classes),
	}
}

func (l *localController) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: l.volumes.Definition().GVK().GroupKind(), Field: "of " + storage.LocalDriver}}
}

// ours says that a claim waits for a volume of the built-in driver.
func ours(c *corev1.PersistentVolumeClaim) bool {
	return c.Annotations[volume.AnnStorageProvisioner] == storage.LocalDriver && c.Spec.VolumeName == "" && c.DeletionTimestamp == nil
}

func (l *localController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	if key.Namespace == "" {
		if v, ok := l.volumes.Get("", key.Name); ok {
			return reconcile.Result{}, l.reclaim(ctx, w, v)
		}
		return reconcile.Result{}, nil
	}
	c, ok := l.claims.Get(key.Namespace, key.Name)
	if !ok || !ours(c) {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{}, l.provide(ctx, w, c)
}

func (l *localController) provide(ctx context.Context, w client.Client, c *corev1.PersistentVolumeClaim) error {
	name := "pvc-" + string(c.UID)
	if _, ok := l.volumes.Get("", name); ok {
		return nil // the binder has it
	}
	class, ok := l.classes.Get("", volume.GetPersistentVolumeClaimClass(c))
	if !ok || class.Provisioner != storage.LocalDriver {
		return nil // the binder says so
	}
	fail := func(err error) error {
		l.events.Eventf(c, corev1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: %v", class.Name, err)
		return nil
	}
	if err := provides(class, c); err != nil {
		return fail(err)
	}
	node, ok := l.nodes.Get("", c.Annotations[volume.AnnSelectedNode])
	if !ok {
		// The node is gone: the scheduler has to choose again.
		next := c.DeepCopy()
		delete(next.Annotations, volume.AnnSelectedNode)
		_, err := client.Update(ctx, w, next)
		return gone(err)
	}
	host := node.Labels[corev1.LabelHostname]
	if host == "" {
		return fail(fmt.Errorf("node %q has no label %s", node.Name, corev1.LabelHostname))
	}
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{storage.LocalNodeLabel: node.Name},
			Annotations: map[string]string{volume.AnnDynamicallyProvisioned: storage.LocalDriver},
			Finalizers:  []string{storage.LocalFinalizer},
		},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: slices.Clone(c.Spec.AccessModes), StorageClassName: class.Name, MountOptions: slices.Clone(class.MountOptions),
			PersistentVolumeReclaimPolicy: *class.ReclaimPolicy,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: size(c)},
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: c.Namespace, Name: c.Name, UID: c.UID, ResourceVersion: c.ResourceVersion,
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: storage.LocalDriver, VolumeHandle: name, FSType: "ext4"}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{host}}},
			}}}},
		},
	}
	_, err := client.Create(ctx, w, v)
	switch {
	case apierrors.IsAlreadyExists(err):
		return nil
	case err != nil:
		return errors.Join(fail(err), fmt.Errorf("cannot create volume %s: %w", name, err))
	}
	l.events.Eventf(c, corev1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume %s", name)
	return nil
}

// provides says why a class cannot give a claim what it asks for.
func provides(class *storagev1.StorageClass, c *corev1.PersistentVolumeClaim) error {
	if keys := slices.Sorted(maps.Keys(class.Parameters)); len(keys) > 0 {
		return fmt.Errorf("unknown parameter %q", keys[0])
	}
	for _, m := range c.Spec.AccessModes {
		if m != corev1.ReadWriteOnce && m != corev1.ReadWriteOncePod {
			return fmt.Errorf("access mode %s is not supported: the volume is on one node", m)
		}
	}
	switch {
	case c.Spec.VolumeMode != nil && *c.Spec.VolumeMode == corev1.PersistentVolumeBlock:
		return errors.New("volumeMode Block is not supported")
	case c.Spec.Selector != nil:
		return errors.New("claim.Spec.Selector is not supported")
	case c.Spec.DataSource != nil || c.Spec.DataSourceRef != nil:
		return errors.New("data sources are not supported")
	case deref(c.Spec.VolumeAttributesClassName) != "":
		return errors.New("volume attributes classes are not supported")
	case c.Annotations[volume.AnnSelectedNode] == "":
		return errors.New("no node was selected: the class needs volumeBindingMode WaitForFirstConsumer")
	}
	return nil
}

// size is what a claim asks for, in whole MiB, and no less than the smallest
// volume.
func size(c *corev1.PersistentVolumeClaim) resource.Quantity {
	q := c.Spec.Resources.Requests[corev1.ResourceStorage].DeepCopy()
	n := max(q.Value(), storage.LocalMinimum)
	if n%storage.MiB == 0 && n == q.Value() {
		return q
	}
	return *resource.NewQuantity((n+storage.MiB-1)/storage.MiB*storage.MiB, resource.BinarySI)
}

// reclaim deletes a volume that was released, and lets one go whose node is no
// more.
func (l *localController) reclaim(ctx context.Context, w client.Client, v *corev1.PersistentVolume) error {
	if v.DeletionTimestamp == nil {
		if v.Annotations[volume.AnnDynamicallyProvisioned] != storage.LocalDriver || v.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete ||
			v.Status.Phase != corev1.VolumeReleased {
			return nil
		}
		return gone(client.Delete[*corev1.PersistentVolume](ctx, w, "", v.Name, *metav1.NewPreconditionDeleteOptions(string(v.UID))))
	}
	if !slices.Contains(v.Finalizers, storage.LocalFinalizer) {
		return nil
	}
	node := v.Labels[storage.LocalNodeLabel]
	if _, ok := l.nodes.Get("", node); ok {
		return nil
	}
	if _, err := client.Get[*corev1.Node](ctx, w, "", node); !apierrors.IsNotFound(err) {
		return err
	}
	next := v.DeepCopy()
	next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == storage.LocalFinalizer })
	_, err := client.Update(ctx, w, next)
	return gone(err)
}
