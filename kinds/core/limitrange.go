package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// LimitRange defines core/v1 LimitRange.
func LimitRange() *object.Definition {
	return object.Kind[*corev1.LimitRange]{
		Version: "v1", Kind: "LimitRange", Resource: "limitranges", ShortNames: []string{"limits"},
		Namespaced: true, AllowCreateOnUpdate: true,
		New:     func() *corev1.LimitRange { return &corev1.LimitRange{} },
		NewList: func() runtime.Object { return &corev1.LimitRangeList{} },
		Columns: []object.TypedColumn[*corev1.LimitRange]{
			object.NameColumn[*corev1.LimitRange](), object.CreatedAtColumn[*corev1.LimitRange](),
		},
	}.Definition()
}
