package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"

	"sagong/kinds/field"
	"sagong/kinds/podspec"
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
		Default: defaultLimitRange,
		PrepareCreate: func(_ context.Context, l *corev1.LimitRange) {
			if l.Name == "" {
				l.Name = string(uuid.NewUUID())
			}
		},
		Validate:       validateLimitRange,
		ValidateUpdate: func(l, _ *corev1.LimitRange) field.ErrorList { return validateLimitRange(l) },
	}.Definition()
}

// defaultLimitRange derives the defaults of containers: the limit from the
// maximum, the request from the limit, else from the minimum.
func defaultLimitRange(l *corev1.LimitRange) {
	for i := range l.Spec.Limits {
		item := &l.Spec.Limits[i]
		for _, list := range []corev1.ResourceList{item.Max, item.Min, item.Default, item.DefaultRequest, item.MaxLimitRequestRatio} {
			podspec.RoundUp(list)
		}
		if item.Type != corev1.LimitTypeContainer {
			continue
		}
		if item.Default == nil {
			item.Default = corev1.ResourceList{}
		}
		if item.DefaultRequest == nil {
			item.DefaultRequest = corev1.ResourceList{}
		}
		copyMissing(item.Default, item.Max)
		copyMissing(item.DefaultRequest, item.Default)
		copyMissing(item.DefaultRequest, item.Min)
	}
}

func copyMissing(to, from corev1.ResourceList) {
	for name, q := range from {
		if _, ok := to[name]; !ok {
			to[name] = q.DeepCopy()
		}
	}
}
