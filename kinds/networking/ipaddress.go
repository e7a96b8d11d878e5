package networking

import (
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/object"
)

// IPAddress defines networking.k8s.io/v1 IPAddress.
func IPAddress() *object.Definition {
	return object.Kind[*networkingv1.IPAddress]{
		Group: "networking.k8s.io", Version: "v1", Kind: "IPAddress", Resource: "ipaddresses", ShortNames: []string{"ip"},
		New:     func() *networkingv1.IPAddress { return &networkingv1.IPAddress{} },
		NewList: func() runtime.Object { return &networkingv1.IPAddressList{} },
		Columns: []object.TypedColumn[*networkingv1.IPAddress]{
			object.NameColumn[*networkingv1.IPAddress](),
			object.StringColumn("ParentRef", networkingv1.IPAddressSpec{}.SwaggerDoc()["parentRef"], func(a *networkingv1.IPAddress) string {
				ref := a.Spec.ParentRef
				if ref == nil {
					return "<none>"
				}
				s := strings.ToLower(ref.Resource)
				if ref.Group != "" {
					s += "." + strings.ToLower(ref.Group)
				}
				if ref.Namespace != "" {
					s += "/" + ref.Namespace
				}
				return s + "/" + ref.Name
			}),
		},
		NameRule:       nameIsIP,
		Validate:       validateIPAddress,
		ValidateUpdate: validateIPAddressUpdate,
	}.Definition()
}

// nameIsIP is the rule of names that are addresses, in the one form each has.
func nameIsIP(name string, _ bool) (out []string) {
	for _, err := range utilvalidation.IsValidIP(nil, name) {
		out = append(out, err.Detail)
	}
	return out
}

func validateIPAddress(a *networkingv1.IPAddress) (errs field.ErrorList) {
	p, ref := specPath.Child("parentRef"), a.Spec.ParentRef
	if ref == nil {
		return append(errs, field.Required(p, ""))
	}
	if ref.Group != "" {
		errs = append(errs, check.Rule(p.Child("group"), ref.Group, utilvalidation.IsDNS1123Subdomain)...)
	}
	for _, f := range []struct{ name, value string }{{"resource", ref.Resource}, {"name", ref.Name}, {"namespace", ref.Namespace}} {
		errs = append(errs, check.Rule(p.Child(f.name), f.value, path.IsValidPathSegmentName)...) // nothing is wrong with ""
	}
	errs = append(errs, check.Required(p.Child("resource"), ref.Resource, "")...)
	return append(errs, check.Required(p.Child("name"), ref.Name, "")...)
}

func validateIPAddressUpdate(a, old *networkingv1.IPAddress) (errs field.ErrorList) {
	p := specPath.Child("parentRef")
	if a.Spec.ParentRef == nil {
		errs = append(errs, field.Required(p, ""))
	}
	return append(errs, check.Declared(p, equality.Semantic.DeepEqual(a.Spec.ParentRef, old.Spec.ParentRef))...)
}
