package volumes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-helpers/storage/volume"

	"sagong/client"
	"sagong/kinds/storage"
	"sagong/object"
)

// unboundClaim finds a volume for a claim, or has one provisioned.
func (b *binder) unboundClaim(ctx context.Context, w client.Client, c *corev1.PersistentVolumeClaim) error {
	if c.Spec.VolumeName != "" {
		return b.namedVolume(ctx, w, c)
	}
	v, err := b.match(c)
	if err != nil {
		return err
	}
	if v != nil {
		return b.bind(ctx, w, v, c)
	}
	if !volume.PersistentVolumeClaimHasClass(c) {
		if s := storage.DefaultClass(b.classes.All()); s != nil {
			next := c.DeepCopy()
			next.Spec.StorageClassName = new(s.Name)
			_, err := client.Update(ctx, w, next)
			return gone(err)
		}
	}
	class := b.class(c)
	_, selected := c.Annotations[volume.AnnSelectedNode]
	switch {
	case waits(class) && !selected:
		b.sayWaiting(c)
	case volume.GetPersistentVolumeClaimClass(c) != "":
		if c, err = b.provision(ctx, w, c); err != nil {
			return gone(err)
		}
	default:
		b.events.Eventf(c, corev1.EventTypeNormal, "FailedBinding", "no persistent volumes available for this claim and no storage class is set")
	}
	_, err = b.claimStatus(ctx, w, c, corev1.ClaimPending, nil)
	return gone(err)
}

// sayWaiting tells whom a claim waits for.
func (b *binder) sayWaiting(c *corev1.PersistentVolumeClaim) {
	var names []string
	for _, p := range b.pods.By(byClaim, object.KeyOf(c).String()) {
		if p.Spec.NodeName == "" && p.DeletionTimestamp == nil {
			names = append(names, p.Name)
		}
	}
	switch slices.Sort(names); len(names) {
	case 0:
		b.events.Eventf(c, corev1.EventTypeNormal, "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
	case 1:
		b.events.Eventf(c, corev1.EventTypeNormal, "WaitForPodScheduled", "waiting for pod %s to be scheduled", names[0])
	default:
		b.events.Eventf(c, corev1.EventTypeNormal, "WaitForPodScheduled", "waiting for pods %s to be scheduled", strings.Join(names, ","))
	}
}

// provision asks the class's provisioner for a volume: by an annotation that it
// watches for.
func (b *binder) provision(ctx context.Context, w client.Client, c *corev1.PersistentVolumeClaim) (*corev1.PersistentVolumeClaim, error) {
	name := volume.GetPersistentVolumeClaimClass(c)
	class := b.class(c)
	if class == nil {
		b.events.Eventf(c, corev1.EventTypeWarning, "ProvisioningFailed", "storageclass.storage.k8s.io %q not found", name)
		return c, nil
	}
	if inTree(class.Provisioner) {
		b.events.Eventf(c, corev1.EventTypeWarning, "ProvisioningFailed", "no volume plugin matched name: %s", class.Provisioner)
		return c, nil
	}
	if c.Annotations[volume.AnnStorageProvisioner] != class.Provisioner {
		next := c.DeepCopy()
		if next.Annotations == nil {
			next.Annotations = map[string]string{}
		}
		next.Annotations[volume.AnnStorageProvisioner] = class.Provisioner
		next.Annotations[volume.AnnBetaStorageProvisioner] = class.Provisioner
		var err error
		if c, err = client.Update(ctx, w, next); err != nil {
			return c, err
		}
	}
	b.events.Eventf(c, corev1.EventTypeNormal, "ExternalProvisioning", "Waiting for a volume to be created either by the external provisioner '%s' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.", class.Provisioner)
	return c, nil
}

// namedVolume binds a claim to the volume it names, if that lets it.
func (b *binder) namedVolume(ctx context.Context, w client.Client, c *corev1.PersistentVolumeClaim) error {
	v, ok := b.volumes.Get("", c.Spec.VolumeName)
	switch {
	case !ok:
	case v.Spec.ClaimRef == nil:
		err := satisfies(v, c)
		if err == nil {
			return b.bind(ctx, w, v, c)
		}
		b.events.Eventf(c, corev1.EventTypeWarning, "VolumeMismatch", "Cannot bind to requested volume %q: %s", v.Name, err)
	case volume.IsVolumeBoundToClaim(v, c):
		return b.bind(ctx, w, v, c)
	case c.Annotations[volume.AnnBoundByController] != "":
		return fmt.Errorf("invalid binding of claim %q to volume %q: volume already claimed by %q", object.KeyOf(c), v.Name, refKey(v))
	default:
		b.events.Eventf(c, corev1.EventTypeWarning, "FailedBinding", "volume %q already bound to a different claim.", v.Name)
	}
	_, err := b.claimStatus(ctx, w, c, corev1.ClaimPending, nil)
	return gone(err)
}

// boundClaim checks that a claim still has its volume. A lost one is not
// recovered: its data may be another's by now.
func (b *binder) boundClaim(ctx context.Context, w client.Client, c *corev1.PersistentVolumeClaim) error {
	lost := func(reason, text string) error {
		if c.Status.Phase == corev1.ClaimLost {
			return nil
		}
		next, err := b.claimStatus(ctx, w, c, corev1.ClaimLost, nil)
		if err != nil {
			return gone(err)
		}
		b.events.Eventf(next, corev1.EventTypeWarning, reason, "%s", text)
		return nil
	}
	if c.Spec.VolumeName == "" {
		return lost("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
	}
	mine := func(v *corev1.PersistentVolume) bool {
		ref := v.Spec.ClaimRef
		return ref == nil || ref.UID == c.UID || ref.UID == "" && volume.IsVolumeBoundToClaim(v, c)
	}
	v, ok := b.volumes.Get("", c.Spec.VolumeName)
	if !ok || !mine(v) {
		// The view of volumes may be behind that of claims.
		live, err := client.Get[*corev1.PersistentVolume](ctx, w, "", c.Spec.VolumeName)
		switch {
		case apierrors.IsNotFound(err):
			return lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
		case err != nil:
			return err
		}
		v = live
	}
	if mine(v) {
		return b.bind(ctx, w, v, c)
	}
	return lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
}

// match finds the best volume for a claim: one bound to it before, else the
// smallest that will do, among those with the fewest access modes. A class that
// waits for a pod gets only volumes that were bound before.
func (b *binder) match(c *corev1.PersistentVolumeClaim) (*corev1.PersistentVolume, error) {
	var fit []*corev1.PersistentVolume
	take := func(all []*corev1.PersistentVolume) {
		for _, v := range all {
			if volume.CheckAccessModes(c, v) {
				fit = append(fit, v)
			}
		}
	}
	take(b.volumes.By(byClaim, object.KeyOf(c).String()))
	if v, err := volume.FindMatchingVolume(c, fit, nil, nil, true, true); v != nil || err != nil {
		return v, err
	}
	if waits(b.class(c)) {
		return nil, nil
	}
	fit = fit[:0]
	take(b.volumes.By(byFree, volume.GetPersistentVolumeClaimClass(c)))
	slices.SortFunc(fit, func(a, b *corev1.PersistentVolume) int {
		return cmp.Or(len(a.Spec.AccessModes)-len(b.Spec.AccessModes), strings.Compare(a.Name, b.Name))
	})
	for len(fit) > 0 {
		n := 1
		for n < len(fit) && len(fit[n].Spec.AccessModes) == len(fit[0].Spec.AccessModes) {
			n++
		}
		if v, err := volume.FindMatchingVolume(c, fit[:n], nil, nil, false, true); v != nil || err != nil {
			return v, err
		}
		fit = fit[n:]
	}
	return nil, nil
}

// satisfies says why a volume that a claim names cannot be its.
func satisfies(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) error {
	if v.DeletionTimestamp != nil {
		return errors.New("the volume is marked for deletion")
	}
	want, have := c.Spec.Resources.Requests[corev1.ResourceStorage], v.Spec.Capacity[corev1.ResourceStorage]
	if have.Cmp(want) < 0 {
		return errors.New("requested PV is too small")
	}
	if volume.GetPersistentVolumeClass(v) != volume.GetPersistentVolumeClaimClass(c) {
		return errors.New("storageClassName does not match")
	}
	if deref(c.Spec.VolumeAttributesClassName) != deref(v.Spec.VolumeAttributesClassName) {
		return errors.New("volumeAttributesClassName does not match")
	}
	if volume.CheckVolumeModeMismatches(&c.Spec, &v.Spec) {
		return errors.New("incompatible volumeMode")
	}
	if !volume.CheckAccessModes(c, v) {
		return errors.New("incompatible accessMode")
	}
	return nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// gone forgives a write to an object that is no more.
func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
