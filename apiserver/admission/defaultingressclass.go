package admission

import (
	"context"
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sagong/apiserver/resource"
	"sagong/client"
)

// DefaultIngressClass gives an Ingress that names no class the default one, if
// there is one.
type DefaultIngressClass struct{ Client client.Client }

// Name implements Plugin.
func (DefaultIngressClass) Name() string { return "DefaultIngressClass" }

// ingressClassAnnotation is how a class was named before the field.
const ingressClassAnnotation = "kubernetes.io/ingress.class"

// Admit implements Mutator.
func (d DefaultIngressClass) Admit(ctx context.Context, a *resource.Attributes) error {
	if a.Operation != resource.Create || !on(a, networkingv1.GroupName, "ingresses") {
		return nil
	}
	ingress := a.Object.(*networkingv1.Ingress)
	if _, named := ingress.Annotations[ingressClassAnnotation]; named || ingress.Spec.IngressClassName != nil {
		return nil
	}
	all, _, err := client.ListOf[*networkingv1.IngressClass](ctx, d.Client, "", client.ListOptions{})
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("cannot read the ingress classes: %w", err))
	}
	var def *networkingv1.IngressClass
	for _, c := range all {
		if c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] != "true" {
			continue
		}
		// Of several the newest counts, of those of one age the first by name.
		if def == nil || c.CreationTimestamp.After(def.CreationTimestamp.Time) ||
			c.CreationTimestamp.Equal(&def.CreationTimestamp) && c.Name < def.Name {
			def = c
		}
	}
	if def != nil {
		ingress.Spec.IngressClassName = &def.Name
	}
	return nil
}
