package networking

import (
	"context"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// ServiceCIDR defines networking.k8s.io/v1 ServiceCIDR.
func ServiceCIDR() *object.Definition {
	return object.Kind[*networkingv1.ServiceCIDR]{
		Group: "networking.k8s.io", Version: "v1", Kind: "ServiceCIDR", Resource: "servicecidrs", Status: true,
		New:     func() *networkingv1.ServiceCIDR { return &networkingv1.ServiceCIDR{} },
		NewList: func() runtime.Object { return &networkingv1.ServiceCIDRList{} },
		Columns: []object.TypedColumn[*networkingv1.ServiceCIDR]{
			object.NameColumn[*networkingv1.ServiceCIDR](),
			object.StringColumn("CIDRs", networkingv1.ServiceCIDRSpec{}.SwaggerDoc()["cidrs"], func(c *networkingv1.ServiceCIDR) string { return strings.Join(c.Spec.CIDRs, ",") }),
			object.AgeColumn[*networkingv1.ServiceCIDR](),
		},
		PrepareCreate: func(_ context.Context, c *networkingv1.ServiceCIDR) { c.Status = networkingv1.ServiceCIDRStatus{} },
	}.Definition()
}
