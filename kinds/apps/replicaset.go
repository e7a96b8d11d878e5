package apps

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/fill"
	"sagong/kinds/podspec"
	"sagong/object"
)

// ReplicaSet defines apps/v1 ReplicaSet.
func ReplicaSet() *object.Definition {
	spec, status := appsv1.ReplicaSetSpec{}.SwaggerDoc(), appsv1.ReplicaSetStatus{}.SwaggerDoc()
	return object.Kind[*appsv1.ReplicaSet]{
		Group: "apps", Version: "v1", Kind: "ReplicaSet", Resource: "replicasets",
		ShortNames: []string{"rs"}, Categories: []string{"all"},
		Namespaced: true, Status: true, Generation: true,
		New:     func() *appsv1.ReplicaSet { return &appsv1.ReplicaSet{} },
		NewList: func() runtime.Object { return &appsv1.ReplicaSetList{} },
		ScaleGet: func(r *appsv1.ReplicaSet) *autoscalingv1.Scale {
			return scaleOf(r.Spec.Replicas, r.Status.Replicas, r.Spec.Selector)
		},
		ScaleSet: func(r *appsv1.ReplicaSet, n int32) { r.Spec.Replicas = &n },
		Columns: []object.TypedColumn[*appsv1.ReplicaSet]{
			object.NameColumn[*appsv1.ReplicaSet](),
			object.IntColumn("Desired", spec["replicas"], func(r *appsv1.ReplicaSet) int64 { return int64(valueOf(r.Spec.Replicas)) }),
			object.IntColumn("Current", status["replicas"], func(r *appsv1.ReplicaSet) int64 { return int64(r.Status.Replicas) }),
			object.IntColumn("Ready", status["readyReplicas"], func(r *appsv1.ReplicaSet) int64 { return int64(r.Status.ReadyReplicas) }),
			object.AgeColumn[*appsv1.ReplicaSet](),
			object.StringColumn("Containers", podspec.NamesDoc, func(r *appsv1.ReplicaSet) string { return podspec.Names(r.Spec.Template.Spec.Containers) }).Wide(),
			object.StringColumn("Images", podspec.ImagesDoc, func(r *appsv1.ReplicaSet) string { return podspec.Images(r.Spec.Template.Spec.Containers) }).Wide(),
			object.StringColumn("Selector", spec["selector"], func(r *appsv1.ReplicaSet) string { return metav1.FormatLabelSelector(r.Spec.Selector) }).Wide(),
		},
		Default: func(r *appsv1.ReplicaSet) {
			fill.Ptr(&r.Spec.Replicas, 1)
			podspec.DefaultTemplate(&r.Spec.Template)
		},
		PrepareCreate:        func(_ context.Context, r *appsv1.ReplicaSet) { r.Status = appsv1.ReplicaSetStatus{} },
		Validate:             validateReplicaSet,
		ValidateUpdate:       validateReplicaSetUpdate,
		ValidateStatusUpdate: validateReplicaSetStatus,
		Warnings:             replicaSetWarnings,
	}.Definition()
}
