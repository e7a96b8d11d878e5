package compose

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/kinds/storage"
	"sagong/object"
)

// storageObjects are the default storage class and its driver.
func storageObjects() []object.Object {
	no, yes := false, true
	group, wait, policy := storagev1.FileFSGroupPolicy, storagev1.VolumeBindingWaitForFirstConsumer, corev1.PersistentVolumeReclaimDelete
	return []object.Object{
		&storagev1.StorageClass{
			ObjectMeta:  metav1.ObjectMeta{Name: storage.LocalClass, Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
			Provisioner: storage.LocalDriver, VolumeBindingMode: &wait, ReclaimPolicy: &policy, AllowVolumeExpansion: &yes,
		},
		&storagev1.CSIDriver{
			ObjectMeta: metav1.ObjectMeta{Name: storage.LocalDriver},
			Spec: storagev1.CSIDriverSpec{
				AttachRequired: &no, FSGroupPolicy: &group, VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent},
			},
		},
	}
}

// ensureStorage makes the default storage class, once: who deletes it does not
// want it back at the next start. Its driver, which is made last, tells that it
// was there.
func ensureStorage(ctx context.Context, cl client.Client) error {
	_, err := client.Get[*storagev1.CSIDriver](ctx, cl, "", storage.LocalDriver)
	if !apierrors.IsNotFound(err) {
		return err
	}
	for _, o := range storageObjects() {
		if err := ensure(ctx, cl, []object.Object{o}); err != nil {
			return err
		}
	}
	return nil
}
