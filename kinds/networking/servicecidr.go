package networking

import (
	"context"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	netutils "k8s.io/utils/net"

	"sagong/kinds/field"
	"sagong/object"
)

// ServiceCIDR defines networking.k8s.io/v1 ServiceCIDR.
func ServiceCIDR() *object.Definition {
	return object.Kind[*networkingv1.ServiceCIDR]{
		Group: "networking.k8s.io", Version: "v1", Kind: "ServiceCIDR", Resource: "servicecidrs", Status: true, StatusKeepsMetadata: true,
		New:     func() *networkingv1.ServiceCIDR { return &networkingv1.ServiceCIDR{} },
		NewList: func() runtime.Object { return &networkingv1.ServiceCIDRList{} },
		Columns: []object.TypedColumn[*networkingv1.ServiceCIDR]{
			object.NameColumn[*networkingv1.ServiceCIDR](),
			object.StringColumn("CIDRs", networkingv1.ServiceCIDRSpec{}.SwaggerDoc()["cidrs"], func(c *networkingv1.ServiceCIDR) string { return strings.Join(c.Spec.CIDRs, ",") }),
			object.AgeColumn[*networkingv1.ServiceCIDR](),
		},
		PrepareCreate:  func(_ context.Context, c *networkingv1.ServiceCIDR) { c.Status = networkingv1.ServiceCIDRStatus{} },
		Validate:       validateServiceCIDR,
		ValidateUpdate: validateServiceCIDRUpdate,
	}.Definition()
}

func validateServiceCIDR(c *networkingv1.ServiceCIDR) (errs field.ErrorList) {
	p, list := specPath.Child("cidrs"), c.Spec.CIDRs
	switch {
	case len(list) == 0:
		return field.ErrorList{field.Required(p, "at least one CIDR required")}
	case len(list) > 2:
		return field.ErrorList{field.Invalid(p, c.Spec, "may only hold up to 2 values")}
	}
	for i, cidr := range list {
		errs = append(errs, utilvalidation.IsValidCIDR(p.Index(i).Upstream(), cidr)...)
	}
	if len(list) == 2 {
		if f := netutils.IPFamilyOfCIDRString(list[0]); f != netutils.IPFamilyUnknown && f == netutils.IPFamilyOfCIDRString(list[1]) {
			errs = append(errs, field.Invalid(p, list, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"))
		}
	}
	return errs
}

// validateServiceCIDRUpdate lets a range of the other family come, nothing
// else: addresses have been given out.
func validateServiceCIDRUpdate(c, old *networkingv1.ServiceCIDR) (errs field.ErrorList) {
	p := specPath.Child("cidrs")
	now, was := c.Spec.CIDRs, old.Spec.CIDRs
	if len(now) != len(was) && !(len(was) == 1 && len(now) == 2) {
		return field.ErrorList{field.Invalid(p, now, validation.FieldImmutableErrorMsg)}
	}
	for i := range was {
		if now[i] != was[i] {
			errs = append(errs, field.Invalid(p.Index(i), now[i], validation.FieldImmutableErrorMsg))
		}
	}
	if len(now) > len(was) {
		errs = append(errs, validateServiceCIDR(c)...)
	}
	return errs
}
