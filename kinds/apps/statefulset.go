package apps

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/runtime"

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
	}.Definition()
}
