package core

import (
	"context"
	"maps"
	"strconv"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/kinds/fill"
	"sagong/kinds/podspec"
	"sagong/object"
)

// ReplicationController defines core/v1 ReplicationController.
func ReplicationController() *object.Definition {
	spec, status := corev1.ReplicationControllerSpec{}.SwaggerDoc(), corev1.ReplicationControllerStatus{}.SwaggerDoc()
	containers := func(r *corev1.ReplicationController) []corev1.Container {
		if r.Spec.Template == nil {
			return nil
		}
		return r.Spec.Template.Spec.Containers
	}
	return object.Kind[*corev1.ReplicationController]{
		Version: "v1", Kind: "ReplicationController", Resource: "replicationcontrollers",
		ShortNames: []string{"rc"}, Categories: []string{"all"},
		Namespaced: true, Status: true, Generation: true,
		New:     func() *corev1.ReplicationController { return &corev1.ReplicationController{} },
		NewList: func() runtime.Object { return &corev1.ReplicationControllerList{} },
		ScaleGet: func(r *corev1.ReplicationController) *autoscalingv1.Scale {
			return &autoscalingv1.Scale{
				Spec:   autoscalingv1.ScaleSpec{Replicas: replicasOf(r.Spec.Replicas)},
				Status: autoscalingv1.ScaleStatus{Replicas: r.Status.Replicas, Selector: labels.Set(r.Spec.Selector).String()},
			}
		},
		ScaleSet: func(r *corev1.ReplicationController, n int32) { r.Spec.Replicas = &n },
		Fields: func(r *corev1.ReplicationController) fields.Set {
			return fields.Set{"status.replicas": strconv.Itoa(int(r.Status.Replicas))}
		},
		FieldNames: []string{"status.replicas"},
		Columns: []object.TypedColumn[*corev1.ReplicationController]{
			object.NameColumn[*corev1.ReplicationController](),
			object.IntColumn("Desired", spec["replicas"], func(r *corev1.ReplicationController) int64 { return int64(replicasOf(r.Spec.Replicas)) }),
			object.IntColumn("Current", status["replicas"], func(r *corev1.ReplicationController) int64 { return int64(r.Status.Replicas) }),
			object.IntColumn("Ready", status["readyReplicas"], func(r *corev1.ReplicationController) int64 { return int64(r.Status.ReadyReplicas) }),
			object.AgeColumn[*corev1.ReplicationController](),
			object.StringColumn("Containers", podspec.NamesDoc, func(r *corev1.ReplicationController) string { return podspec.Names(containers(r)) }).Wide(),
			object.StringColumn("Images", podspec.ImagesDoc, func(r *corev1.ReplicationController) string { return podspec.Images(containers(r)) }).Wide(),
			object.StringColumn("Selector", spec["selector"], func(r *corev1.ReplicationController) string { return labels.FormatLabels(r.Spec.Selector) }).Wide(),
		},
		DefaultPropagation: metav1.DeletePropagationOrphan,
		Default:            defaultReplicationController,
		PrepareCreate: func(_ context.Context, r *corev1.ReplicationController) {
			r.Status = corev1.ReplicationControllerStatus{}
		},
		NameRule: func(name string, prefix bool) []string {
			if prefix {
				return validation.NameIsDNSSubdomain(name, true)
			}
			return nil // Validate has it
		},
		Validate:             validateReplicationController,
		ValidateUpdate:       func(r, _ *corev1.ReplicationController) field.ErrorList { return validateReplicationController(r) },
		ValidateStatusUpdate: validateReplicationControllerStatus,
		Warnings:             replicationControllerWarnings,
	}.Definition()
}

func replicasOf(n *int32) int32 {
	if n == nil {
		return 0
	}
	return *n
}

// defaultReplicationController takes selector and labels from the template.
func defaultReplicationController(r *corev1.ReplicationController) {
	fill.Ptr(&r.Spec.Replicas, 1)
	if r.Spec.Template == nil {
		return
	}
	if l := r.Spec.Template.Labels; len(l) > 0 {
		if len(r.Spec.Selector) == 0 {
			r.Spec.Selector = maps.Clone(l)
		}
		if len(r.Labels) == 0 {
			r.Labels = maps.Clone(l)
		}
	}
	podspec.DefaultTemplate(r.Spec.Template)
}
