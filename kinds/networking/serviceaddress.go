package networking

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// DefaultServiceCIDR is the name of the ServiceCIDR that the server makes of
	// its own settings.
	DefaultServiceCIDR = "kubernetes"
	// AddressManager is the managed-by label of the IPAddresses of Services.
	AddressManager = "ipallocator.k8s.io"
)

// Allocates says whether addresses are given out of a ServiceCIDR: one without a
// condition is taken to be ready, as upstream does.
func Allocates(c *networkingv1.ServiceCIDR) bool {
	if c.DeletionTimestamp != nil {
		return false
	}
	for _, cond := range c.Status.Conditions {
		if cond.Type == networkingv1.ServiceCIDRConditionReady {
			return cond.Status == metav1.ConditionTrue
		}
	}
	return true
}

// Prefixes are the ranges of a ServiceCIDR.
func Prefixes(c *networkingv1.ServiceCIDR) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(c.Spec.CIDRs))
	for _, text := range c.Spec.CIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

// Gives says whether a Service may have an address of a range: not the network's
// own, nor the broadcast address of IPv4.
func Gives(p netip.Prefix, a netip.Addr) bool {
	return p.Contains(a) && a != p.Masked().Addr() && !(a.Is4() && a == last(p))
}

// last is the highest address of an IPv4 prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}

// Covers says whether a ServiceCIDR may give an address.
func Covers(c *networkingv1.ServiceCIDR, a netip.Addr) bool {
	for _, p := range Prefixes(c) {
		if Gives(p, a) {
			return true
		}
	}
	return false
}

// ClusterAddresses are the addresses of a Service, none for one that has no
// address of its own.
func ClusterAddresses(s *corev1.Service) []netip.Addr {
	if s == nil || s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	all := make([]netip.Addr, 0, len(s.Spec.ClusterIPs))
	for _, text := range s.Spec.ClusterIPs {
		if a, err := netip.ParseAddr(text); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// Family is the family of an address as Services name it.
func Family(a netip.Addr) corev1.IPFamily {
	if a.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// AddressOf makes the IPAddress of a Service.
func AddressOf(s *corev1.Service, a netip.Addr) *networkingv1.IPAddress {
	return &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: a.String(), Labels: map[string]string{
			networkingv1.LabelIPAddressFamily: string(Family(a)), networkingv1.LabelManagedBy: AddressManager,
		}},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: s.Namespace, Name: s.Name}},
	}
}

// OfService says whether an IPAddress is for a Service, and for the one given
// when namespace and name are.
func OfService(a *networkingv1.IPAddress, namespace, name string) bool {
	ref := a.Spec.ParentRef
	return ref != nil && ref.Group == "" && ref.Resource == "services" && (name == "" || ref.Namespace == namespace && ref.Name == name)
}
