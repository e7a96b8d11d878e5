package apps

import (
	"context"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sagong/kinds/fill"
	"sagong/kinds/podspec"
	"sagong/object"
)

// DaemonSet defines apps/v1 DaemonSet.
func DaemonSet() *object.Definition {
	spec, status := appsv1.DaemonSetSpec{}.SwaggerDoc(), appsv1.DaemonSetStatus{}.SwaggerDoc()
	return object.Kind[*appsv1.DaemonSet]{
		Group: "apps", Version: "v1", Kind: "DaemonSet", Resource: "daemonsets",
		ShortNames: []string{"ds"}, Categories: []string{"all"},
		Namespaced: true, Status: true, Generation: true,
		New:     func() *appsv1.DaemonSet { return &appsv1.DaemonSet{} },
		NewList: func() runtime.Object { return &appsv1.DaemonSetList{} },
		Columns: []object.TypedColumn[*appsv1.DaemonSet]{
			object.NameColumn[*appsv1.DaemonSet](),
			object.IntColumn("Desired", status["desiredNumberScheduled"], func(d *appsv1.DaemonSet) int64 { return int64(d.Status.DesiredNumberScheduled) }),
			object.IntColumn("Current", status["currentNumberScheduled"], func(d *appsv1.DaemonSet) int64 { return int64(d.Status.CurrentNumberScheduled) }),
			object.IntColumn("Ready", status["numberReady"], func(d *appsv1.DaemonSet) int64 { return int64(d.Status.NumberReady) }),
			object.IntColumn("Up-to-date", status["updatedNumberScheduled"], func(d *appsv1.DaemonSet) int64 { return int64(d.Status.UpdatedNumberScheduled) }),
			object.IntColumn("Available", status["numberAvailable"], func(d *appsv1.DaemonSet) int64 { return int64(d.Status.NumberAvailable) }),
			object.StringColumn("Node Selector", corev1.PodSpec{}.SwaggerDoc()["nodeSelector"], func(d *appsv1.DaemonSet) string { return labels.FormatLabels(d.Spec.Template.Spec.NodeSelector) }),
			object.AgeColumn[*appsv1.DaemonSet](),
			object.StringColumn("Containers", podspec.NamesDoc, func(d *appsv1.DaemonSet) string { return podspec.Names(d.Spec.Template.Spec.Containers) }).Wide(),
			object.StringColumn("Images", podspec.ImagesDoc, func(d *appsv1.DaemonSet) string { return podspec.Images(d.Spec.Template.Spec.Containers) }).Wide(),
			object.StringColumn("Selector", spec["selector"], func(d *appsv1.DaemonSet) string { return metav1.FormatLabelSelector(d.Spec.Selector) }).Wide(),
		},
		Default:              defaultDaemonSet,
		PrepareCreate:        prepareDaemonSetCreate,
		PrepareUpdate:        prepareDaemonSetUpdate,
		PrepareStatusUpdate:  func(_ context.Context, d, old *appsv1.DaemonSet) { setTemplateGeneration(d, templateGeneration(old)) },
		Validate:             validateDaemonSet,
		ValidateUpdate:       validateDaemonSetUpdate,
		ValidateStatusUpdate: validateDaemonSetStatus,
		Warnings:             daemonSetWarnings,
	}.Definition()
}

func prepareDaemonSetCreate(_ context.Context, d *appsv1.DaemonSet) {
	d.Status = appsv1.DaemonSetStatus{}
	setTemplateGeneration(d, max(1, templateGeneration(d)))
}

func prepareDaemonSetUpdate(_ context.Context, d, old *appsv1.DaemonSet) {
	n := templateGeneration(old)
	if !equality.Semantic.DeepEqual(d.Spec.Template, old.Spec.Template) {
		n++
	}
	setTemplateGeneration(d, n)
}

// templateGeneration is the number of a set's template, which groups of old had as a
// field and this one has as an annotation; 0 if there is none.
func templateGeneration(d *appsv1.DaemonSet) int64 {
	n, err := strconv.ParseInt(d.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// setTemplateGeneration sets the annotation in a copy of what there is, which may be
// shared.
func setTemplateGeneration(d *appsv1.DaemonSet, n int64) {
	text := strconv.FormatInt(n, 10)
	if d.Annotations[appsv1.DeprecatedTemplateGeneration] == text {
		return
	}
	all := make(map[string]string, len(d.Annotations)+1)
	maps.Copy(all, d.Annotations)
	all[appsv1.DeprecatedTemplateGeneration] = text
	d.Annotations = all
}

func defaultDaemonSet(d *appsv1.DaemonSet) {
	s := &d.Spec
	fill.Zero(&s.UpdateStrategy.Type, appsv1.RollingUpdateDaemonSetStrategyType)
	if s.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		fill.Ptr(&s.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateDaemonSet{})
		fill.Ptr(&s.UpdateStrategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
		fill.Ptr(&s.UpdateStrategy.RollingUpdate.MaxSurge, intstr.FromInt32(0))
	}
	fill.Ptr(&s.RevisionHistoryLimit, 10)
	podspec.DefaultTemplate(&s.Template)
}
