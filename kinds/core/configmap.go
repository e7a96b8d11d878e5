package core

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
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
			object.IntColumn("Data", corev1.ConfigMap{}.SwaggerDoc()["data"], func(c *corev1.ConfigMap) int64 { return int64(len(c.Data) + len(c.BinaryData)) }).Text(),
			object.AgeColumn[*corev1.ConfigMap](),
		},
		Validate:       validateConfigMap,
		ValidateUpdate: validateConfigMapUpdate,
	}.Definition()
}

func validateConfigMap(c *corev1.ConfigMap) field.ErrorList {
	errs := validateKeys(c.Data, field.NewPath("data"))
	size := 0
	for _, k := range slices.Sorted(maps.Keys(c.Data)) {
		if _, twice := c.BinaryData[k]; twice {
			errs = append(errs, field.Invalid(field.NewPath("data").Key(k), k, "duplicate of key present in binaryData"))
		}
		size += len(c.Data[k])
	}
	errs = append(errs, validateKeys(c.BinaryData, field.NewPath("binaryData"))...)
	for _, v := range c.BinaryData {
		size += len(v)
	}
	return append(errs, tooLarge(field.NewPath(""), size)...)
}

func validateConfigMapUpdate(c, old *corev1.ConfigMap) field.ErrorList {
	errs := frozen(c.Immutable, old.Immutable, frozenPart{"data", c.Data, old.Data}, frozenPart{"binaryData", c.BinaryData, old.BinaryData})
	return append(errs, validateConfigMap(c)...)
}
