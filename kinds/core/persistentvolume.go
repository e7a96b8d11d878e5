package core

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/fill"
	"sagong/kinds/podspec"
	"sagong/object"
)

// PersistentVolume defines core/v1 PersistentVolume.
func PersistentVolume() *object.Definition {
	spec, status := corev1.PersistentVolumeSpec{}.SwaggerDoc(), corev1.PersistentVolumeStatus{}.SwaggerDoc()
	return object.Kind[*corev1.PersistentVolume]{
		Version: "v1", Kind: "PersistentVolume", Resource: "persistentvolumes", ShortNames: []string{"pv"}, Status: true,
		New:     func() *corev1.PersistentVolume { return &corev1.PersistentVolume{} },
		NewList: func() runtime.Object { return &corev1.PersistentVolumeList{} },
		Columns: []object.TypedColumn[*corev1.PersistentVolume]{
			object.NameColumn[*corev1.PersistentVolume](),
			object.StringColumn("Capacity", spec["capacity"], func(v *corev1.PersistentVolume) string { return storageOf(v.Spec.Capacity) }),
			object.StringColumn("Access Modes", spec["accessModes"], func(v *corev1.PersistentVolume) string { return accessModes(v.Spec.AccessModes) }),
			object.StringColumn("Reclaim Policy", spec["persistentVolumeReclaimPolicy"], func(v *corev1.PersistentVolume) string { return string(v.Spec.PersistentVolumeReclaimPolicy) }),
			object.StringColumn("Status", status["phase"], func(v *corev1.PersistentVolume) string {
				if v.DeletionTimestamp != nil {
					return "Terminating"
				}
				return string(v.Status.Phase)
			}),
			object.StringColumn("Claim", spec["claimRef"], func(v *corev1.PersistentVolume) string {
				if v.Spec.ClaimRef == nil {
					return ""
				}
				return v.Spec.ClaimRef.Namespace + "/" + v.Spec.ClaimRef.Name
			}),
			object.StringColumn("StorageClass", "StorageClass of the pv", func(v *corev1.PersistentVolume) string {
				if class, ok := v.Annotations[corev1.BetaStorageClassAnnotation]; ok {
					return class
				}
				return v.Spec.StorageClassName
			}),
			object.StringColumn("VolumeAttributesClass", "VolumeAttributesClass of the pv", func(v *corev1.PersistentVolume) string { return orUnset(v.Spec.VolumeAttributesClassName) }),
			object.StringColumn("Reason", status["reason"], func(v *corev1.PersistentVolume) string { return v.Status.Reason }),
			object.AgeColumn[*corev1.PersistentVolume](),
			object.StringColumn("VolumeMode", spec["volumeMode"], func(v *corev1.PersistentVolume) string { return orUnset(v.Spec.VolumeMode) }).Wide(),
		},
		Default: defaultPersistentVolume,
		PrepareCreate: func(_ context.Context, v *corev1.PersistentVolume) {
			now := metav1.Now()
			v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: &now}
		},
		PrepareStatusUpdate: preparePersistentVolumeStatus,
		Validate:            validatePersistentVolume,
		ValidateUpdate:      validatePersistentVolumeUpdate,
		Warnings:            persistentVolumeWarnings,
	}.Definition()
}

func storageOf(l corev1.ResourceList) string {
	q := l[corev1.ResourceStorage]
	return q.String()
}

// accessModes abbreviates modes in upstream's fixed order, each once.
func accessModes(modes []corev1.PersistentVolumeAccessMode) string {
	var all []string
	for _, m := range []struct {
		mode  corev1.PersistentVolumeAccessMode
		short string
	}{
		{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"},
		{corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"},
	} {
		if slices.Contains(modes, m.mode) {
			all = append(all, m.short)
		}
	}
	return strings.Join(all, ",")
}

func orUnset[S ~string](s *S) string {
	if s == nil {
		return "<unset>"
	}
	return string(*s)
}

func defaultPersistentVolume(v *corev1.PersistentVolume) {
	fill.Zero(&v.Status.Phase, corev1.VolumePending)
	fill.Zero(&v.Spec.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimRetain)
	fill.Ptr(&v.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	podspec.DefaultPersistent(&v.Spec)
}

// preparePersistentVolumeStatus notes when the phase changes, unless the
// writer did.
func preparePersistentVolumeStatus(_ context.Context, v, old *corev1.PersistentVolume) {
	was, is := old.Status.LastPhaseTransitionTime, v.Status.LastPhaseTransitionTime
	if v.Status.Phase != old.Status.Phase && (is == nil || is.Equal(was)) {
		now := metav1.Now()
		v.Status.LastPhaseTransitionTime = &now
	}
}
