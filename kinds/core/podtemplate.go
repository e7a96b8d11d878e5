package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/kinds/podspec"
	"sagong/object"
)

// PodTemplate defines core/v1 PodTemplate.
func PodTemplate() *object.Definition {
	return object.Kind[*corev1.PodTemplate]{
		Version: "v1", Kind: "PodTemplate", Resource: "podtemplates",
		Namespaced: true, Generation: true,
		New:     func() *corev1.PodTemplate { return &corev1.PodTemplate{} },
		NewList: func() runtime.Object { return &corev1.PodTemplateList{} },
		Columns: []object.TypedColumn[*corev1.PodTemplate]{
			object.NameColumn[*corev1.PodTemplate](),
			object.StringColumn("Containers", podspec.NamesDoc, func(t *corev1.PodTemplate) string { return podspec.Names(t.Template.Spec.Containers) }),
			object.StringColumn("Images", podspec.ImagesDoc, func(t *corev1.PodTemplate) string { return podspec.Images(t.Template.Spec.Containers) }),
			object.StringColumn("Pod Labels", "The labels for the pod template.", func(t *corev1.PodTemplate) string { return labels.FormatLabels(t.Template.Labels) }),
		},
		Default:        func(t *corev1.PodTemplate) { podspec.DefaultTemplate(&t.Template) },
		Validate:       validatePodTemplate,
		ValidateUpdate: func(t, _ *corev1.PodTemplate) field.ErrorList { return validatePodTemplate(t) },
		Warnings: func(t, old *corev1.PodTemplate) []string {
			if old != nil && equality.Semantic.DeepEqual(t.Template, old.Template) {
				return nil
			}
			return podspec.TemplateWarnings(&t.Template, field.NewPath("template"))
		},
	}.Definition()
}

func validatePodTemplate(t *corev1.PodTemplate) field.ErrorList {
	return podspec.ValidateTemplate(&t.Template, field.NewPath("template"))
}
