package networking

import (
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"

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
			object.AgeColumn[*networkingv1.IPAddress](),
		},
	}.Definition()
}
