package networking

import (
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/fill"
	"sagong/object"
)

// IngressClass defines networking.k8s.io/v1 IngressClass.
func IngressClass() *object.Definition {
	spec := networkingv1.IngressClassSpec{}.SwaggerDoc()
	return object.Kind[*networkingv1.IngressClass]{
		Group: "networking.k8s.io", Version: "v1", Kind: "IngressClass", Resource: "ingressclasses", Generation: true,
		New:     func() *networkingv1.IngressClass { return &networkingv1.IngressClass{} },
		NewList: func() runtime.Object { return &networkingv1.IngressClassList{} },
		Columns: []object.TypedColumn[*networkingv1.IngressClass]{
			object.NameColumn[*networkingv1.IngressClass](),
			object.StringColumn("Controller", spec["controller"], func(c *networkingv1.IngressClass) string { return c.Spec.Controller }),
			object.StringColumn("Parameters", spec["parameters"], func(c *networkingv1.IngressClass) string {
				p := c.Spec.Parameters
				if p == nil {
					return "<none>"
				}
				if p.APIGroup != nil {
					return p.Kind + "." + *p.APIGroup + "/" + p.Name
				}
				return p.Kind + "/" + p.Name
			}),
			object.AgeColumn[*networkingv1.IngressClass](),
		},
		Default: func(c *networkingv1.IngressClass) {
			if c.Spec.Parameters != nil {
				fill.Ptr(&c.Spec.Parameters.Scope, networkingv1.IngressClassParametersReferenceScopeCluster)
			}
		},
	}.Definition()
}
