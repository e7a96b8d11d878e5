package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver/resource"
	"sagong/client"
)

// NamespaceLifecycle keeps new objects out of namespaces that do not exist or
// are going away, and the system's own namespaces from being deleted.
type NamespaceLifecycle struct{ Client client.Client }

// Name implements Plugin.
func (NamespaceLifecycle) Name() string { return "NamespaceLifecycle" }

// Admit implements Mutator, though it changes nothing: a request for a missing
// namespace should fail for that reason before any other.
func (n NamespaceLifecycle) Admit(ctx context.Context, a *resource.Attributes) error {
	if a.Operation == resource.Delete && on(a, "", "namespaces") {
		switch a.Name {
		case metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic:
			return forbidden(a, "this namespace may not be deleted")
		}
		return nil
	}
	if a.Namespace == "" || a.Operation != resource.Create || !a.Definition.Namespaced {
		return nil
	}
	if a.Definition.Group == "authorization.k8s.io" && a.Definition.Resource == "localsubjectaccessreviews" {
		return nil // asks about a namespace, makes nothing in it
	}
	ns, err := client.Get[*corev1.Namespace](ctx, n.Client, "", a.Namespace)
	if err != nil {
		if apierrors.IsNotFound(err) {
			return err
		}
		return apierrors.NewInternalError(fmt.Errorf("cannot read namespace %s: %w", a.Namespace, err))
	}
	if ns.Status.Phase != corev1.NamespaceTerminating && ns.DeletionTimestamp == nil {
		return nil
	}
	no := apierrors.NewForbidden(a.Definition.GR(), a.Name, fmt.Errorf("unable to create new content in namespace %s because it is being terminated", a.Namespace))
	no.ErrStatus.Details.Causes = append(no.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: corev1.NamespaceTerminatingCause, Message: fmt.Sprintf("namespace %s is being terminated", a.Namespace), Field: "metadata.namespace",
	})
	return no
}
