package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// ConfigMap defines core/v1 ConfigMap.
func ConfigMap() *object.Definition {
	return object.Kind[*corev1.ConfigMap]{
		Version: "v1", Kind: "ConfigMap", Resource: "configmaps", ShortNames: []string{"cm"}, Namespaced: true,
		New:     func() *corev1.ConfigMap { return &corev1.ConfigMap{} },
		NewList: func() runtime.Object { return &corev1.ConfigMapList{} },
		Columns: []object.TypedColumn[*corev1.ConfigMap]{
			object.NameColumn[*corev1.ConfigMap](),
			object.IntColumn("Data", corev1.ConfigMap{}.SwaggerDoc()["data"], func(c *corev1.ConfigMap) int64 { return int64(len(c.Data) + len(c.BinaryData)) }),
			object.AgeColumn[*corev1.ConfigMap](),
		},
	}.Definition()
}
