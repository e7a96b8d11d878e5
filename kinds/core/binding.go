package core

import (
	corev1 "k8s.io/api/core/v1"

	"sagong/object"
)

// Binding defines core/v1 Binding, which ties a pod to a node when created.
func Binding() *object.Definition {
	return object.Kind[*corev1.Binding]{
		Version: "v1", Kind: "Binding", Resource: "bindings",
		Namespaced: true, Virtual: true, Verbs: []string{"create"},
		New: func() *corev1.Binding { return &corev1.Binding{} },
	}.Definition()
}
