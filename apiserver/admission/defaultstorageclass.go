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
	"sagong/kinds/storage"
)

// DefaultStorageClass gives a claim that names no class the default one, if
// there is one. A claim that names the empty class wants none.
type DefaultStorageClass struct{ Client client.Client }

// Name implements Plugin.
func (DefaultStorageClass) Name() string { return "DefaultStorageClass" }

// Admit implements Mutator.
func (d DefaultStorageClass) Admit(ctx context.Context, a *resource.Attributes) error {
	if a.Operation != resource.Create || !on(a, "", "persistentvolumeclaims") {
		return nil
	}
	claim := a.Object.(*corev1.PersistentVolumeClaim)
	if volume.PersistentVolumeClaimHasClass(claim) {
		return nil
	}
	all, _, err := client.ListOf[*storagev1.StorageClass](ctx, d.Client, "", client.ListOptions{})
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("cannot read the storage classes: %w", err))
	}
	if c := storage.DefaultClass(all); c != nil {
		claim.Spec.StorageClassName = new(c.Name)
	}
	return nil
}
