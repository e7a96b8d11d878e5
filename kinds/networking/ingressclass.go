package networking

import (
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/fill"
	"sagong/object"
)

// IngressClass defines networking.k8s.io/v1 IngressClass.
func IngressClass() *object.Definition {
	return object.Kind[*networkingv1.IngressClass]{
		Group: "networking.k8s.io", Version: "v1", Kind: "IngressClass", Resource: "ingressclasses", Generation: true,
		New:     func() *networkingv1.IngressClass { return &networkingv1.IngressClass{} },
		NewList: func() runtime.Object { return &networkingv1.IngressClassList{} },
		Columns: []object.TypedColumn[*networkingv1.IngressClass]{
			object.NameColumnOf(func(c *networkingv1.IngressClass) string {
				if c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
					return c.Name + " (default)"
				}
				return c.Name
			}),
			object.StringColumn("Controller", "Controller that is responsible for handling this class", func(c *networkingv1.IngressClass) string { return c.Spec.Controller }),
			object.StringColumn("Parameters", "A reference to a resource with additional parameters", func(c *networkingv1.IngressClass) string {
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
		Validate:       validateIngressClass,
		ValidateUpdate: validateIngressClassUpdate,
	}.Definition()
}

func validateIngressClass(c *networkingv1.IngressClass) field.ErrorList {
	const maxController = 250
	p := specPath.Child("controller")
	var errs field.ErrorList
	if len(c.Spec.Controller) > maxController {
		errs = append(errs, field.TooLong(p, "", maxController))
	}
	errs = append(errs, utilvalidation.IsDomainPrefixedPath(p.Upstream(), c.Spec.Controller)...)
	r := c.Spec.Parameters
	if r == nil {
		return errs
	}
	p = specPath.Child("parameters")
	// That a kind or a name is missing comes last, as all that upstream declares
	// beside the type.
	var missing field.ErrorList
	for _, e := range validateLocalReference(r.APIGroup, r.Kind, r.Name, p) {
		if e.Type == field.ErrorTypeRequired {
			missing = append(missing, e)
		} else {
			errs = append(errs, e)
		}
	}
	if r.Scope == nil {
		errs = append(errs, field.Required(p.Child("scope"), ""))
	} else {
		errs = append(errs, validateParametersScope(r, p)...)
	}
	return append(errs, missing...)
}

func validateParametersScope(r *networkingv1.IngressClassParametersReference, p *field.Path) (errs field.ErrorList) {
	errs = append(errs, check.OneOf(p.Child("scope"), *r.Scope,
		networkingv1.IngressClassParametersReferenceScopeCluster, networkingv1.IngressClassParametersReferenceScopeNamespace)...)
	switch *r.Scope {
	case networkingv1.IngressClassParametersReferenceScopeNamespace:
		if r.Namespace == nil {
			errs = append(errs, field.Required(p.Child("namespace"), "`parameters.scope` is set to 'Namespace'"))
		} else {
			errs = append(errs, check.Name(p.Child("namespace"), *r.Namespace, validation.ValidateNamespaceName)...)
		}
	case networkingv1.IngressClassParametersReferenceScopeCluster:
		if r.Namespace != nil {
			errs = append(errs, field.Forbidden(p.Child("namespace"), "`parameters.scope` is set to 'Cluster'"))
		}
	}
	return errs
}

func validateIngressClassUpdate(c, old *networkingv1.IngressClass) field.ErrorList {
	return append(check.Immutable(specPath.Child("controller"), c.Spec.Controller, old.Spec.Controller), validateIngressClass(c)...)
}
