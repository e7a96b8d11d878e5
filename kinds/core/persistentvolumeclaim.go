package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/fill"
	"sagong/kinds/podspec"
	"sagong/object"
)

// PersistentVolumeClaim defines core/v1 PersistentVolumeClaim.
func PersistentVolumeClaim() *object.Definition {
	spec, status := corev1.PersistentVolumeClaimSpec{}.SwaggerDoc(), corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()
	return object.Kind[*corev1.PersistentVolumeClaim]{
		Version: "v1", Kind: "PersistentVolumeClaim", Resource: "persistentvolumeclaims", ShortNames: []string{"pvc"},
		Namespaced: true, Status: true,
		New:     func() *corev1.PersistentVolumeClaim { return &corev1.PersistentVolumeClaim{} },
		NewList: func() runtime.Object { return &corev1.PersistentVolumeClaimList{} },
		Columns: []object.TypedColumn[*corev1.PersistentVolumeClaim]{
			object.NameColumn[*corev1.PersistentVolumeClaim](),
			object.StringColumn("Status", status["phase"], func(c *corev1.PersistentVolumeClaim) string {
				if c.DeletionTimestamp != nil {
					return "Terminating"
				}
				return string(c.Status.Phase)
			}),
			object.StringColumn("Volume", spec["volumeName"], func(c *corev1.PersistentVolumeClaim) string { return c.Spec.VolumeName }),
			object.StringColumn("Capacity", status["capacity"], func(c *corev1.PersistentVolumeClaim) string {
				if c.Spec.VolumeName == "" {
					return ""
				}
				return storageOf(c.Status.Capacity)
			}),
			object.StringColumn("Access Modes", status["accessModes"], func(c *corev1.PersistentVolumeClaim) string {
				if c.Spec.VolumeName == "" {
					return ""
				}
				return accessModes(c.Status.AccessModes)
			}),
			object.StringColumn("StorageClass", "StorageClass of the pvc", func(c *corev1.PersistentVolumeClaim) string {
				if class, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
					return class
				}
				if c.Spec.StorageClassName != nil {
					return *c.Spec.StorageClassName
				}
				return ""
			}),
			object.StringColumn("VolumeAttributesClass", "VolumeAttributesClass of the pvc", func(c *corev1.PersistentVolumeClaim) string { return orUnset(c.Spec.VolumeAttributesClassName) }),
			object.AgeColumn[*corev1.PersistentVolumeClaim](),
			object.StringColumn("VolumeMode", spec["volumeMode"], func(c *corev1.PersistentVolumeClaim) string { return orUnset(c.Spec.VolumeMode) }).Wide(),
		},
		Default: func(c *corev1.PersistentVolumeClaim) {
			fill.Zero(&c.Status.Phase, corev1.ClaimPending)
			podspec.DefaultClaim(&c.Spec)
			podspec.RoundUp(c.Status.Capacity)
		},
		PrepareCreate: func(_ context.Context, c *corev1.PersistentVolumeClaim) {
			c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
			preparePersistentVolumeClaim(&c.Spec)
		},
		PrepareUpdate:        func(_ context.Context, c, _ *corev1.PersistentVolumeClaim) { preparePersistentVolumeClaim(&c.Spec) },
		Validate:             validatePersistentVolumeClaim,
		ValidateUpdate:       validatePersistentVolumeClaimUpdate,
		ValidateStatusUpdate: validatePersistentVolumeClaimStatus,
		Warnings:             persistentVolumeClaimWarnings,
	}.Definition()
}

// preparePersistentVolumeClaim makes the two names of a claim's data source
// agree where they can.
func preparePersistentVolumeClaim(s *corev1.PersistentVolumeClaimSpec) {
	switch {
	case s.DataSource != nil && s.DataSourceRef == nil:
		s.DataSourceRef = &corev1.TypedObjectReference{Kind: s.DataSource.Kind, Name: s.DataSource.Name}
		if g := s.DataSource.APIGroup; g != nil {
			group := *g
			s.DataSourceRef.APIGroup = &group
		}
	case s.DataSource == nil && s.DataSourceRef != nil && (s.DataSourceRef.Namespace == nil || *s.DataSourceRef.Namespace == ""):
		s.DataSource = &corev1.TypedLocalObjectReference{Kind: s.DataSourceRef.Kind, Name: s.DataSourceRef.Name}
		if g := s.DataSourceRef.APIGroup; g != nil {
			group := *g
			s.DataSource.APIGroup = &group
		}
	}
}
