package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver/resource"
	"sagong/client"
)

// NamespaceAutoProvision makes the namespace that an object is created in. It is
// off unless asked for.
type NamespaceAutoProvision struct{ Client client.Client }

// Name implements Plugin.
func (NamespaceAutoProvision) Name() string { return "NamespaceAutoProvision" }

// Admit implements Mutator, to be asked before the others miss the namespace.
func (n NamespaceAutoProvision) Admit(ctx context.Context, a *resource.Attributes) error {
	if a.Operation != resource.Create || a.DryRun || !inNamespace(a) {
		return nil
	}
	_, err := client.Get[*corev1.Namespace](ctx, n.Client, "", a.Namespace)
	if !apierrors.IsNotFound(err) {
		return err
	}
	_, err = client.Create(ctx, n.Client, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: a.Namespace}})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// NamespaceExists refuses all writes in a namespace that does not exist. It is off
// unless asked for.
type NamespaceExists struct{ Client client.Client }

// Name implements Plugin.
func (NamespaceExists) Name() string { return "NamespaceExists" }

// Validate implements Validator.
func (n NamespaceExists) Validate(ctx context.Context, a *resource.Attributes) error {
	if a.Operation != resource.Create && a.Operation != resource.Update && a.Operation != resource.Delete || !inNamespace(a) {
		return nil
	}
	_, err := client.Get[*corev1.Namespace](ctx, n.Client, "", a.Namespace)
	if err != nil && !apierrors.IsNotFound(err) {
		return apierrors.NewInternalError(err)
	}
	return err
}

func inNamespace(a *resource.Attributes) bool {
	return a.Namespace != "" && (a.Definition.Group != "" || a.Definition.Resource != "namespaces")
}
