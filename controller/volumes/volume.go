package volumes

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-helpers/storage/volume"

	"sagong/client"
	"sagong/object"
)

// volume brings a volume's phase up to date and reclaims what its claim left.
func (b *binder) volume(ctx context.Context, w client.Client, v *corev1.PersistentVolume) error {
	if v.Spec.ClaimRef == nil || v.Spec.ClaimRef.UID == "" {
		// Free, or kept for a claim that has not come yet.
		_, err := b.phase(ctx, w, v, corev1.VolumeAvailable, "")
		return gone(err)
	}
	c, err := b.claimant(ctx, w, v)
	if err != nil {
		return err
	}
	switch {
	case c == nil:
		return b.release(ctx, w, v)
	case c.Spec.VolumeName == v.Name:
		_, err := b.phase(ctx, w, v, corev1.VolumeBound, "")
		return gone(err)
	case c.Spec.VolumeName == "":
		// The claim's own key goes on with the binding.
		if volume.CheckVolumeModeMismatches(&c.Spec, &v.Spec) {
			b.events.Eventf(v, corev1.EventTypeWarning, "VolumeMismatch", "Cannot bind PersistentVolume to requested PersistentVolumeClaim %q due to incompatible volumeMode.", c.Name)
		}
		return nil
	case v.Annotations[volume.AnnDynamicallyProvisioned] != "" && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
		return b.release(ctx, w, v) // made for a claim that found another
	}
	return b.unbind(ctx, w, v)
}

// claimant is the very claim that a volume is bound to, nil when it is gone. It
// is asked for live before that is believed: what follows destroys data.
func (b *binder) claimant(ctx context.Context, w client.Client, v *corev1.PersistentVolume) (*corev1.PersistentVolumeClaim, error) {
	key := refKey(v)
	if c, ok := b.claims.Get(key.Namespace, key.Name); ok && c.UID == v.Spec.ClaimRef.UID {
		return c, nil
	}
	if v.Status.Phase == corev1.VolumeReleased || v.Status.Phase == corev1.VolumeFailed {
		return nil, nil
	}
	c, err := client.Get[*corev1.PersistentVolumeClaim](ctx, w, key.Namespace, key.Name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("cannot read claim %s: %w", key, err)
	case c.UID != v.Spec.ClaimRef.UID:
		return nil, nil
	}
	return c, nil
}

// release does with a volume whose claim is gone what its policy says.
func (b *binder) release(ctx context.Context, w client.Client, v *corev1.PersistentVolume) (err error) {
	if v.Status.Phase != corev1.VolumeFailed {
		if v, err = b.phase(ctx, w, v, corev1.VolumeReleased, ""); err != nil {
			return gone(err)
		}
	}
	var reason, text string
	switch v.Spec.PersistentVolumeReclaimPolicy {
	case corev1.PersistentVolumeReclaimRetain:
		return nil
	case corev1.PersistentVolumeReclaimDelete:
		if v.Annotations[volume.AnnDynamicallyProvisioned] != "" || v.Spec.CSI != nil {
			return nil // its provisioner sees that it is Released
		}
		reason = "VolumeFailedDelete"
		text = fmt.Sprintf("error getting deleter volume plugin for volume %q: no deletable volume plugin matched", v.Name)
	case corev1.PersistentVolumeReclaimRecycle:
		reason, text = "VolumeFailedRecycle", "No recycler plugin found for the volume!"
	default:
		reason, text = "VolumeUnknownReclaimPolicy", "Volume has unrecognized PersistentVolumeReclaimPolicy"
	}
	if v.Status.Phase == corev1.VolumeFailed {
		return nil
	}
	if v, err = b.phase(ctx, w, v, corev1.VolumeFailed, text); err != nil {
		return gone(err)
	}
	b.events.Eventf(v, corev1.EventTypeWarning, reason, "%s", text)
	return nil
}

// unbind gives back a volume whose claim was bound to another meanwhile. One
// that a user reserved for the claim stays reserved.
func (b *binder) unbind(ctx context.Context, w client.Client, v *corev1.PersistentVolume) error {
	next := v.DeepCopy()
	if next.Annotations[volume.AnnBoundByController] != "" {
		next.Spec.ClaimRef = nil
		delete(next.Annotations, volume.AnnBoundByController)
	} else {
		next.Spec.ClaimRef.UID = ""
	}
	next, err := client.Update(ctx, w, next)
	if err != nil {
		return gone(fmt.Errorf("cannot unbind volume %s from claim %s: %w", v.Name, object.Key{Namespace: v.Spec.ClaimRef.Namespace, Name: v.Spec.ClaimRef.Name}, err))
	}
	_, err = b.phase(ctx, w, next, corev1.VolumeAvailable, "")
	return gone(err)
}
