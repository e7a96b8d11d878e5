package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// Namespace defines core/v1 Namespace.
func Namespace() *object.Definition {
	return object.Kind[*corev1.Namespace]{
		Version: "v1", Kind: "Namespace", Resource: "namespaces", ShortNames: []string{"ns"}, Status: true,
		// Contents go one namespace at a time: there is no deletecollection.
		Verbs:   []string{"create", "delete", "get", "list", "patch", "update", "watch"},
		New:     func() *corev1.Namespace { return &corev1.Namespace{} },
		NewList: func() runtime.Object { return &corev1.NamespaceList{} },
		Subresources: []object.Subresource{
			{Name: "finalize", Version: "v1", Kind: "Namespace", Verbs: []string{"update"}},
		},
		Fields: func(n *corev1.Namespace) fields.Set {
			return fields.Set{"status.phase": string(n.Status.Phase), "name": n.Name}
		},
		FieldNames: []string{"status.phase", "name"},
		Columns: []object.TypedColumn[*corev1.Namespace]{
			object.NameColumn[*corev1.Namespace](),
			object.StringColumn("Status", "The status of the namespace", func(n *corev1.Namespace) string { return string(n.Status.Phase) }),
			object.AgeColumn[*corev1.Namespace](),
		},
		NameRule: validation.ValidateNamespaceName,
	}.Definition()
}
