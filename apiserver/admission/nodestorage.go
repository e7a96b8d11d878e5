package admission

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/diff"

	"sagong/apiserver/resource"
	"sagong/kinds/storage"
)

// claimStatus holds a node to what it knows of a claim: how large its volume is.
func (n NodeRestriction) claimStatus(a *resource.Attributes, node string) error {
	if a.Subresource != "status" {
		return forbidden(a, "may only update PVC status")
	}
	if a.Operation != resource.Update {
		return forbidden(a, "unexpected operation %q", a.Operation)
	}
	now, ok := a.Object.(*corev1.PersistentVolumeClaim)
	old, had := a.Old.(*corev1.PersistentVolumeClaim)
	if !ok || !had {
		return forbidden(a, "unexpected type %T", a.Object)
	}
	// All else stays, labels and owners too.
	rest := func(c *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
		c = c.DeepCopy()
		c.TypeMeta, c.ResourceVersion, c.ManagedFields = metav1.TypeMeta{}, "", nil
		c.Status.Capacity, c.Status.Conditions, c.Status.AllocatedResources, c.Status.AllocatedResourceStatuses = nil, nil, nil, nil
		return c
	}
	if before, after := rest(old), rest(now); !equality.Semantic.DeepEqual(before, after) {
		return forbidden(a, "node %q is not allowed to update fields other than status.quantity and status.conditions: %v", node, diff.Diff(before, after))
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
