package core

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/fill"
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
		NameRule:      validation.ValidateNamespaceName,
		Default:       defaultNamespace,
		PrepareCreate: prepareNamespaceCreate,
		PrepareUpdate: prepareNamespaceUpdate,
	}.Definition()
}

func defaultNamespace(n *corev1.Namespace) {
	fill.Zero(&n.Status.Phase, corev1.NamespaceActive)
	labelNamespace(n)
}

// labelNamespace makes every namespace selectable by its name.
func labelNamespace(n *corev1.Namespace) {
	if n.Name == "" {
		return
	}
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[corev1.LabelMetadataName] = n.Name
}

// prepareNamespaceCreate gives a namespace the finalizer that holds its
// deletion until its contents are gone.
func prepareNamespaceCreate(_ context.Context, n *corev1.Namespace) {
	n.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
	if !slices.Contains(n.Spec.Finalizers, corev1.FinalizerKubernetes) {
		n.Spec.Finalizers = append(n.Spec.Finalizers, corev1.FinalizerKubernetes)
	}
	labelNamespace(n)
}

// prepareNamespaceUpdate leaves finalizers to the finalize subresource.
func prepareNamespaceUpdate(_ context.Context, n, old *corev1.Namespace) {
	n.Spec.Finalizers = slices.Clone(old.Spec.Finalizers)
	labelNamespace(n)
}
