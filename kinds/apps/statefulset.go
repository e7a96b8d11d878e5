package apps

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sagong/kinds/fill"
	"sagong/kinds/podspec"
	"sagong/object"
)

// StatefulSet defines apps/v1 StatefulSet.
func StatefulSet() *object.Definition {
	return object.Kind[*appsv1.StatefulSet]{
		Group: "apps", Version: "v1", Kind: "StatefulSet", Resource: "statefulsets",
		ShortNames: []string{"sts"}, Categories: []string{"all"},
		Namespaced: true, Status: true, Generation: true,
		New:     func() *appsv1.StatefulSet { return &appsv1.StatefulSet{} },
		NewList: func() runtime.Object { return &appsv1.StatefulSetList{} },
		ScaleGet: func(s *appsv1.StatefulSet) *autoscalingv1.Scale {
			return scaleOf(s.Spec.Replicas, s.Status.Replicas, s.Spec.Selector)
		},
		ScaleSet: func(s *appsv1.StatefulSet, n int32) { s.Spec.Replicas = &n },
		Columns: []object.TypedColumn[*appsv1.StatefulSet]{
			object.NameColumn[*appsv1.StatefulSet](),
			object.StringColumn("Ready", "Number of the pod with ready state", func(s *appsv1.StatefulSet) string {
				return fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, valueOf(s.Spec.Replicas))
			}),
			object.AgeColumn[*appsv1.StatefulSet](),
			object.StringColumn("Containers", podspec.NamesDoc, func(s *appsv1.StatefulSet) string { return podspec.Names(s.Spec.Template.Spec.Containers) }).Wide(),
			object.StringColumn("Images", podspec.ImagesDoc, func(s *appsv1.StatefulSet) string { return podspec.Images(s.Spec.Template.Spec.Containers) }).Wide(),
		},
		Default:              defaultStatefulSet,
		PrepareCreate:        func(_ context.Context, s *appsv1.StatefulSet) { s.Status = appsv1.StatefulSetStatus{} },
		Validate:             validateStatefulSet,
		ValidateUpdate:       validateStatefulSetUpdate,
		ValidateStatusUpdate: validateStatefulSetStatus,
		Warnings:             statefulSetWarnings,
		NameRule:             nameOfPods,
	}.Definition()
}

func defaultStatefulSet(set *appsv1.StatefulSet) {
	s := &set.Spec
	fill.Zero(&s.PodManagementPolicy, appsv1.OrderedReadyPodManagement)
	fill.Zero(&s.UpdateStrategy.Type, appsv1.RollingUpdateStatefulSetStrategyType)
	if s.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
		fill.Ptr(&s.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateStatefulSetStrategy{})
		fill.Ptr(&s.UpdateStrategy.RollingUpdate.Partition, 0)
		fill.Ptr(&s.UpdateStrategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
	}
	fill.Ptr(&s.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
	fill.Zero(&s.PersistentVolumeClaimRetentionPolicy.WhenDeleted, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	fill.Zero(&s.PersistentVolumeClaimRetentionPolicy.WhenScaled, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	fill.Ptr(&s.Replicas, 1)
	fill.Ptr(&s.RevisionHistoryLimit, 10)
	podspec.DefaultTemplate(&s.Template)
	for i := range s.VolumeClaimTemplates {
		c := &s.VolumeClaimTemplates[i]
		// Stored with their type: patches and clients compare them so.
		c.APIVersion, c.Kind = "v1", "PersistentVolumeClaim"
		fill.Zero(&c.Status.Phase, corev1.ClaimPending)
		podspec.DefaultClaim(&c.Spec)
	}
}

// nameOfPods is the rule of names that become those of pods, with a number.
func nameOfPods(name string, prefix bool) []string { return validation.NameIsDNSLabel(name, prefix) }
