package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-helpers/storage/volume"

	"sagong/apiserver/resource"
	"sagong/client"
)

// PersistentVolumeClaimResize lets only those claims grow whose class says that
// its volumes can.
type PersistentVolumeClaimResize struct{ Client client.Client }

// Name implements Plugin.
func (PersistentVolumeClaimResize) Name() string { return "PersistentVolumeClaimResize" }

// Validate implements Validator.
func (p PersistentVolumeClaimResize) Validate(ctx context.Context, a *resource.Attributes) error {
	if a.Operation != resource.Update || !on(a, "", "persistentvolumeclaims") {
		return nil
	}
	claim, old := a.Object.(*corev1.PersistentVolumeClaim), a.Old.(*corev1.PersistentVolumeClaim)
	was, is := old.Spec.Resources.Requests[corev1.ResourceStorage], claim.Spec.Resources.Requests[corev1.ResourceStorage]
	if is.Cmp(was) <= 0 {
		return nil
	}
	if old.Status.Phase != corev1.ClaimBound {
		return forbidden(a, "Only bound persistent volume claims can be expanded")
	}
	name := volume.GetPersistentVolumeClaimClass(claim)
	ok := false
	if name != "" && name == volume.GetPersistentVolumeClaimClass(old) {
		c, err := client.Get[*storagev1.StorageClass](ctx, p.Client, "", name)
		if err != nil && !apierrors.IsNotFound(err) {
			return apierrors.NewInternalError(fmt.Errorf("cannot read the storage class: %w", err))
		}
		ok = err == nil && c.AllowVolumeExpansion != nil && *c.AllowVolumeExpansion
	}
	if !ok {
		return forbidden(a, "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize")
	}
	return nil
}
