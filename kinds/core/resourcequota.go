package core

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/podspec"
	"sagong/object"
)

// ResourceQuota defines core/v1 ResourceQuota.
func ResourceQuota() *object.Definition {
	return object.Kind[*corev1.ResourceQuota]{
		Version: "v1", Kind: "ResourceQuota", Resource: "resourcequotas", ShortNames: []string{"quota"},
		Namespaced: true, Status: true,
		New:     func() *corev1.ResourceQuota { return &corev1.ResourceQuota{} },
		NewList: func() runtime.Object { return &corev1.ResourceQuotaList{} },
		Columns: []object.TypedColumn[*corev1.ResourceQuota]{
			object.NameColumn[*corev1.ResourceQuota](),
			object.StringColumn("Request", "Request represents a minimum amount of cpu/memory that a container may consume.",
				func(q *corev1.ResourceQuota) string { return quotaCell(q, false) }),
			object.StringColumn("Limit", "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
				func(q *corev1.ResourceQuota) string { return quotaCell(q, true) }),
			object.AgeColumn[*corev1.ResourceQuota](),
		},
		Default: func(q *corev1.ResourceQuota) {
			podspec.RoundUp(q.Spec.Hard)
			podspec.RoundUp(q.Status.Hard)
			podspec.RoundUp(q.Status.Used)
		},
		PrepareCreate:        func(_ context.Context, q *corev1.ResourceQuota) { q.Status = corev1.ResourceQuotaStatus{} },
		Validate:             validateResourceQuota,
		ValidateUpdate:       validateResourceQuotaUpdate,
		ValidateStatusUpdate: validateResourceQuotaStatus,
	}.Definition()
}

func quotaCell(q *corev1.ResourceQuota, limits bool) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(q.Status.Hard)) {
		if strings.HasPrefix(string(name), "limits.") != limits {
			continue
		}
		used, hard := q.Status.Used[name], q.Status.Hard[name]
		all = append(all, fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String()))
	}
	return strings.Join(all, ", ")
}
