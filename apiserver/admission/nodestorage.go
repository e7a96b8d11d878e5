package admission

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"sagong/apiserver/resource"
	"sagong/kinds/storage"
)

// claimStatus holds a node to what it knows of a claim: how large its volume is.
func (n NodeRestriction) claimStatus(a *resource.Attributes, node string) error {
	now, ok := a.Object.(*corev1.PersistentVolumeClaim)
	old, had := a.Old.(*corev1.PersistentVolumeClaim)
	if a.Subresource != "status" || a.Operation != resource.Update || !ok || !had {
		return forbidden(a, "node %q can only update the status of persistentvolumeclaims", node)
	}
	want := *old.Status.DeepCopy()
	want.Capacity, want.Conditions = now.Status.Capacity, now.Status.Conditions
	want.AllocatedResources, want.AllocatedResourceStatuses = now.Status.AllocatedResources, now.Status.AllocatedResourceStatuses
	if !equality.Semantic.DeepEqual(want, now.Status) {
		return forbidden(a, "node %q is not allowed to update fields other than status.quantity and status.conditions", node)
	}
	return nil
}

// volume lets a node say of a volume of its own that the data is gone.
func (n NodeRestriction) volume(a *resource.Attributes, node string) error {
	now, ok := a.Object.(*corev1.PersistentVolume)
	old, had := a.Old.(*corev1.PersistentVolume)
	if a.Operation != resource.Update || a.Subresource != "" || !ok || !had || old.Labels[storage.LocalNodeLabel] != node {
		return forbidden(a, "node %q can only update persistentvolumes that lie on it", node)
	}
	want := old.DeepCopy()
	want.Finalizers = slices.DeleteFunc(want.Finalizers, func(f string) bool { return f == storage.LocalFinalizer })
	if old.DeletionTimestamp == nil || !equality.Semantic.DeepEqual(want.Spec, now.Spec) || !equality.Semantic.DeepEqual(want.Labels, now.Labels) ||
		!equality.Semantic.DeepEqual(want.Annotations, now.Annotations) || !slices.Equal(want.Finalizers, now.Finalizers) ||
		!equality.Semantic.DeepEqual(want.OwnerReferences, now.OwnerReferences) {
		return forbidden(a, "node %q can only remove the finalizer %s of a deleted persistentvolume", node, storage.LocalFinalizer)
	}
	return nil
}
