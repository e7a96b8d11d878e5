package core

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/check"
	"sagong/kinds/field"
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
			return fields.Set{"status.phase": string(n.Status.Phase)}
		},
		FieldNames: []string{"status.phase"},
		Columns: []object.TypedColumn[*corev1.Namespace]{
			object.NameColumn[*corev1.Namespace](),
			object.StringColumn("Status", "The status of the namespace", func(n *corev1.Namespace) string { return string(n.Status.Phase) }),
			object.AgeColumn[*corev1.Namespace](),
		},
		NameRule:             validation.ValidateNamespaceName,
		Default:              defaultNamespace,
		PrepareCreate:        prepareNamespaceCreate,
		PrepareUpdate:        prepareNamespaceUpdate,
		Validate:             validateNamespace,
		ValidateUpdate:       func(n, _ *corev1.Namespace) field.ErrorList { return validateNamespace(n) },
		ValidateStatusUpdate: validateNamespaceStatus,
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

// validateNamespace blames the list of finalizers as a whole, as upstream does.
func validateNamespace(n *corev1.Namespace) (errs field.ErrorList) {
	for _, f := range n.Spec.Finalizers {
		errs = append(errs, validateFinalizer(f, specPath.Child("finalizers"))...)
	}
	return errs
}

func validateFinalizer(f corev1.FinalizerName, p *field.Path) field.ErrorList {
	return append(validation.ValidateFinalizerName(string(f), p.Upstream()), check.KubeFinalizer(p, string(f))...)
}

// ValidateNamespaceFinalize checks a write to namespaces/finalize.
func ValidateNamespaceFinalize(n *corev1.Namespace) (errs field.ErrorList) {
	for i, f := range n.Spec.Finalizers {
		errs = append(errs, validateFinalizer(f, specPath.Child("finalizers").Index(i))...)
	}
	return errs
}

func validateNamespaceStatus(n, _ *corev1.Namespace) field.ErrorList {
	p := field.NewPath("status", "Phase")
	if n.DeletionTimestamp.IsZero() {
		if n.Status.Phase != corev1.NamespaceActive {
			return field.ErrorList{field.Invalid(p, n.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty")}
		}
	} else if n.Status.Phase != corev1.NamespaceTerminating {
		return field.ErrorList{field.Invalid(p, n.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")}
	}
	return nil
}
