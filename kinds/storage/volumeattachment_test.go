package storage

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// An inline volume is filled as one that stands alone, but for what is of those
// alone: its mode and what becomes of it.
func TestInlineVolumeIsDefaulted(t *testing.T) {
	a := &storagev1.VolumeAttachment{}
	a.Spec.Source.InlineVolumeSpec = &corev1.PersistentVolumeSpec{
		Capacity:               corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1500u")},
		PersistentVolumeSource: corev1.PersistentVolumeSource{RBD: &corev1.RBDPersistentVolumeSource{RadosUser: "mine"}},
	}
	VolumeAttachment().Default(a)
	s := a.Spec.Source.InlineVolumeSpec
	if s.RBD.RBDPool != "rbd" || s.RBD.RadosUser != "mine" || s.RBD.Keyring != "/etc/ceph/keyring" {
		t.Errorf("the source is %+v", s.RBD)
	}
	if q := s.Capacity[corev1.ResourceStorage]; q.String() != "2m" {
		t.Errorf("the size is %s", &q)
	}
	if s.VolumeMode != nil || s.PersistentVolumeReclaimPolicy != "" {
		t.Errorf("mode %v, policy %q", s.VolumeMode, s.PersistentVolumeReclaimPolicy)
	}
}
