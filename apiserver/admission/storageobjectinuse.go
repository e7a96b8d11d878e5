package admission

import (
	"context"
	"slices"

	storagev1 "k8s.io/api/storage/v1"

	"sagong/apiserver/resource"
	"sagong/object"
)

// StorageObjectInUseProtection keeps volumes, claims and classes of volume
// attributes from vanishing under those who use them: each is born with a
// finalizer that a controller takes away once nobody does.
type StorageObjectInUseProtection struct{}

// Name implements Plugin.
func (StorageObjectInUseProtection) Name() string { return "StorageObjectInUseProtection" }

// Admit implements Mutator.
func (StorageObjectInUseProtection) Admit(_ context.Context, a *resource.Attributes) error {
	if a.Operation != resource.Create {
		return nil
	}
	var finalizer string
	switch {
	case on(a, "", "persistentvolumeclaims"):
		finalizer = "kubernetes.io/pvc-protection"
	case on(a, "", "persistentvolumes"):
		finalizer = "kubernetes.io/pv-protection"
	case on(a, storagev1.GroupName, "volumeattributesclasses"):
		finalizer = "kubernetes.io/vac-protection"
	default:
		return nil
	}
	o := a.Object.(object.Object)
	if have := o.GetFinalizers(); !slices.Contains(have, finalizer) {
		o.SetFinalizers(append(slices.Clone(have), finalizer))
	}
	return nil
}
