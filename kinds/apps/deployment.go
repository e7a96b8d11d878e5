package apps

import (
	"context"
	"fmt"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sagong/kinds/fill"
	"sagong/kinds/podspec"
	"sagong/object"
)

// Deployment defines apps/v1 Deployment.
func Deployment() *object.Definition {
	spec, status := appsv1.DeploymentSpec{}.SwaggerDoc(), appsv1.DeploymentStatus{}.SwaggerDoc()
	return object.Kind[*appsv1.Deployment]{
		Group: "apps", Version: "v1", Kind: "Deployment", Resource: "deployments",
		ShortNames: []string{"deploy"}, Categories: []string{"all"},
		Namespaced: true, Status: true, Generation: true,
		// Annotations count: they are copied to the replica sets.
		NewGeneration: func(d, old *appsv1.Deployment, content bool) bool {
			return content || !maps.Equal(d.Annotations, old.Annotations)
		},
		Resets:  map[string][]string{"status": {"metadata.labels"}},
		New:     func() *appsv1.Deployment { return &appsv1.Deployment{} },
		NewList: func() runtime.Object { return &appsv1.DeploymentList{} },
		ScaleGet: func(d *appsv1.Deployment) *autoscalingv1.Scale {
			return scaleOf(d.Spec.Replicas, d.Status.Replicas, d.Spec.Selector)
		},
		ScaleSet: func(d *appsv1.Deployment, n int32) { d.Spec.Replicas = &n },
		Columns: []object.TypedColumn[*appsv1.Deployment]{
			object.NameColumn[*appsv1.Deployment](),
			object.StringColumn("Ready", "Number of the pod with ready state", func(d *appsv1.Deployment) string {
				return fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, valueOf(d.Spec.Replicas))
			}),
			object.IntColumn("Up-to-date", status["updatedReplicas"], func(d *appsv1.Deployment) int64 { return int64(d.Status.UpdatedReplicas) }).Text(),
			object.IntColumn("Available", status["availableReplicas"], func(d *appsv1.Deployment) int64 { return int64(d.Status.AvailableReplicas) }).Text(),
			object.AgeColumn[*appsv1.Deployment](),
			object.StringColumn("Containers", podspec.NamesDoc, func(d *appsv1.Deployment) string { return podspec.Names(d.Spec.Template.Spec.Containers) }).Wide(),
			object.StringColumn("Images", podspec.ImagesDoc, func(d *appsv1.Deployment) string { return podspec.Images(d.Spec.Template.Spec.Containers) }).Wide(),
			object.StringColumn("Selector", spec["selector"], func(d *appsv1.Deployment) string {
				selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
				if err != nil {
					return "<invalid>"
				}
				return selector.String()
			}).Wide(),
		},
		Default:       defaultDeployment,
		PrepareCreate: func(_ context.Context, d *appsv1.Deployment) { d.Status = appsv1.DeploymentStatus{} },
		// Who reports may annotate a deployment, as upstream allows, but not
		// change what selects it.
		PrepareStatusUpdate:  func(_ context.Context, d, old *appsv1.Deployment) { d.Labels = maps.Clone(old.Labels) },
		Validate:             validateDeployment,
		ValidateUpdate:       validateDeploymentUpdate,
		ValidateStatusUpdate: validateDeploymentStatus,
		Warnings:             deploymentWarnings,
	}.Definition()
}

// scaleOf builds the spec and status of a Scale; the engine fills metadata.
func scaleOf(want *int32, have int32, selector *metav1.LabelSelector) *autoscalingv1.Scale {
	s := &autoscalingv1.Scale{
		Spec:   autoscalingv1.ScaleSpec{Replicas: valueOf(want)},
		Status: autoscalingv1.ScaleStatus{Replicas: have},
	}
	if sel, err := metav1.LabelSelectorAsSelector(selector); err == nil {
		s.Status.Selector = sel.String()
	}
	return s
}

func valueOf(n *int32) int32 {
	if n == nil {
		return 0
	}
	return *n
}

func defaultDeployment(d *appsv1.Deployment) {
	s := &d.Spec
	fill.Ptr(&s.Replicas, 1)
	fill.Zero(&s.Strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if s.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		fill.Ptr(&s.Strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		fill.Ptr(&s.Strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		fill.Ptr(&s.Strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	fill.Ptr(&s.RevisionHistoryLimit, 10)
	fill.Ptr(&s.ProgressDeadlineSeconds, 600)
	podspec.DefaultTemplate(&s.Template)
}
