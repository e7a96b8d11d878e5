package volumes

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"sagong/client"
	"sagong/object"
)

// bind makes a volume and a claim each other's, whatever part of it is done
// already: first the volume, then the claim.
func (b *binder) bind(ctx context.Context, w client.Client, v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) (err error) {
	next, changed, err := volume.GetBindVolumeToClaim(v, c)
	if err != nil {
		return err
	}
	if changed {
		if v, err = client.Update(ctx, w, next); err != nil {
			return fmt.Errorf("cannot bind volume %s to claim %s: %w", next.Name, object.KeyOf(c), err)
		}
	}
	if v, err = b.phase(ctx, w, v, corev1.VolumeBound, ""); err != nil {
		return err
	}
	if c.Spec.VolumeName != v.Name || c.Annotations[volume.AnnBindCompleted] == "" {
		bound := c.DeepCopy()
		if bound.Spec.VolumeName != v.Name {
			metav1.SetMetaDataAnnotation(&bound.ObjectMeta, volume.AnnBoundByController, "yes")
		}
		bound.Spec.VolumeName = v.Name
		metav1.SetMetaDataAnnotation(&bound.ObjectMeta, volume.AnnBindCompleted, "yes")
		if c, err = client.Update(ctx, w, bound); err != nil {
			return fmt.Errorf("cannot bind claim %s to volume %s: %w", object.KeyOf(bound), v.Name, err)
		}
	}
	_, err = b.claimStatus(ctx, w, c, corev1.ClaimBound, v)
	return gone(err)
}

// phase sets a volume's phase.
func (b *binder) phase(ctx context.Context, w client.Client, v *corev1.PersistentVolume, p corev1.PersistentVolumePhase, message string) (*corev1.PersistentVolume, error) {
	if v.Status.Phase == p {
		return v, nil
	}
	next := v.DeepCopy()
	next.Status.Phase, next.Status.Message = p, message
	next, err := client.UpdateStatus(ctx, w, next)
	if err != nil {
		return v, fmt.Errorf("cannot set phase of volume %s: %w", v.Name, err)
	}
	return next, nil
}

// claimStatus sets a claim's phase and what follows from the volume it is bound
// to, nil for none. The capacity is the volume's when they are bound; how it
// grows later is for those who let it.
func (b *binder) claimStatus(ctx context.Context, w client.Client, c *corev1.PersistentVolumeClaim, p corev1.PersistentVolumeClaimPhase, v *corev1.PersistentVolume) (*corev1.PersistentVolumeClaim, error) {
	next := c.DeepCopy()
	s := &next.Status
	was := s.Phase
	s.Phase = p
	if v == nil {
		s.AccessModes, s.Capacity, s.CurrentVolumeAttributesClassName = nil, nil, nil
	} else {
		s.AccessModes = slices.Clone(v.Spec.AccessModes)
		if _, has := s.Capacity[corev1.ResourceStorage]; was != p || !has {
			s.Capacity = v.Spec.Capacity.DeepCopy()
		}
		if was != p {
			s.CurrentVolumeAttributesClassName = nil
			if n := v.Spec.VolumeAttributesClassName; n != nil {
				s.CurrentVolumeAttributesClassName = new(*n)
			}
		}
	}
	if equality.Semantic.DeepEqual(c.Status, *s) {
		return c, nil
	}
	next, err := client.UpdateStatus(ctx, w, next)
	if err != nil {
		return c, fmt.Errorf("cannot set phase of claim %s: %w", object.KeyOf(c), err)
	}
	return next, nil
}
