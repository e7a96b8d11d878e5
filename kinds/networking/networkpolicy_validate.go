package networking

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	netutils "k8s.io/utils/net"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

func validateNetworkPolicy(n *networkingv1.NetworkPolicy) field.ErrorList {
	return validatePolicy(n, nil, metav1validation.LabelSelectorValidationOptions{})
}

// validateNetworkPolicyUpdate lets pass what once was let pass: ranges in any
// place, since rules may have moved.
func validateNetworkPolicyUpdate(n, old *networkingv1.NetworkPolicy) field.ErrorList {
	var had []string
	block := func(peers []networkingv1.NetworkPolicyPeer) {
		for _, p := range peers {
			if p.IPBlock != nil {
				had = append(append(had, p.IPBlock.CIDR), p.IPBlock.Except...)
			}
		}
	}
	for _, r := range old.Spec.Ingress {
		block(r.From)
	}
	for _, r := range old.Spec.Egress {
		block(r.To)
	}
	opts := metav1validation.LabelSelectorValidationOptions{}
	opts.AllowInvalidLabelValueInSelector = len(metav1validation.ValidateLabelSelector(&old.Spec.PodSelector, opts, nil)) > 0
	return validatePolicy(n, had, opts)
}

// validatePolicy puts last what upstream declares beside the type.
func validatePolicy(n *networkingv1.NetworkPolicy, had []string, opts metav1validation.LabelSelectorValidationOptions) field.ErrorList {
	errs := validateRules(n, had, opts)
	missing := func(peers []networkingv1.NetworkPolicyPeer, path *field.Path) {
		for i := range peers {
			if b := peers[i].IPBlock; b != nil {
				errs = append(errs, check.Required(path.Index(i).Child("ipBlock", "cidr"), b.CIDR, "")...)
			}
		}
	}
	for i := range n.Spec.Ingress {
		missing(n.Spec.Ingress[i].From, specPath.Child("ingress").Index(i).Child("from"))
	}
	for i := range n.Spec.Egress {
		missing(n.Spec.Egress[i].To, specPath.Child("egress").Index(i).Child("to"))
	}
	return errs
}

func validateRules(n *networkingv1.NetworkPolicy, had []string, opts metav1validation.LabelSelectorValidationOptions) field.ErrorList {
	errs := metav1validation.ValidateLabelSelector(&n.Spec.PodSelector, opts, specPath.Child("podSelector").Upstream())
	for i, r := range n.Spec.Ingress {
		p := specPath.Child("ingress").Index(i)
		errs = append(errs, validatePolicyPorts(r.Ports, p.Child("ports"))...)
		for j := range r.From {
			errs = append(errs, validatePeer(&r.From[j], had, opts, p.Child("from").Index(j))...)
		}
	}
	for i, r := range n.Spec.Egress {
		p := specPath.Child("egress").Index(i)
		errs = append(errs, validatePolicyPorts(r.Ports, p.Child("ports"))...)
		for j := range r.To {
			errs = append(errs, validatePeer(&r.To[j], had, opts, p.Child("to").Index(j))...)
		}
	}
	p := specPath.Child("policyTypes")
	if len(n.Spec.PolicyTypes) > 2 {
		return append(errs, field.Invalid(p, n.Spec.PolicyTypes, "may not specify more than two policyTypes"))
	}
	for i, t := range n.Spec.PolicyTypes {
		errs = append(errs, check.Listed(p.Index(i), t, networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress)...)
	}
	return errs
}

func validatePolicyPorts(ports []networkingv1.NetworkPolicyPort, path *field.Path) (errs field.ErrorList) {
	for i, port := range ports {
		p := path.Index(i)
		if port.Protocol != nil {
			errs = append(errs, check.Listed(p.Child("protocol"), *port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
		}
		end := p.Child("endPort")
		if port.Port == nil {
			if port.EndPort != nil {
				errs = append(errs, field.Invalid(end, *port.EndPort, "may not be specified when `port` is not specified"))
			}
			continue
		}
		if port.EndPort != nil && port.Port.Type == intstr.String {
			errs = append(errs, field.Invalid(end, *port.EndPort, "may not be specified when `port` is non-numeric"))
		}
		errs = append(errs, check.PortOrName(p.Child("port"), *port.Port)...)
		if port.EndPort == nil || port.Port.Type == intstr.String {
			continue
		}
		if *port.EndPort < port.Port.IntVal {
			errs = append(errs, field.Invalid(end, *port.EndPort, "must be greater than or equal to `port`"))
		}
		errs = append(errs, check.Port(end, *port.EndPort)...)
	}
	return errs
}

func validatePeer(peer *networkingv1.NetworkPolicyPeer, had []string, opts metav1validation.LabelSelectorValidationOptions, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, metav1validation.ValidateLabelSelector(peer.PodSelector, opts, path.Child("podSelector").Upstream())...)
	errs = append(errs, metav1validation.ValidateLabelSelector(peer.NamespaceSelector, opts, path.Child("namespaceSelector").Upstream())...)
	selected := peer.PodSelector != nil || peer.NamespaceSelector != nil
	if peer.IPBlock != nil {
		errs = append(errs, validateBlock(peer.IPBlock, had, path.Child("ipBlock"))...)
	}
	switch {
	case selected && peer.IPBlock != nil:
		errs = append(errs, field.Forbidden(path, "may not specify both ipBlock and another peer"))
	case !selected && peer.IPBlock == nil:
		errs = append(errs, field.Required(path, "must specify a peer"))
	}
	return errs
}

func validateBlock(b *networkingv1.IPBlock, had []string, path *field.Path) (errs field.ErrorList) {
	if b.CIDR == "" {
		return nil // validatePolicy says it
	}
	errs = append(errs, utilvalidation.IsValidCIDRForLegacyField(path.Child("cidr").Upstream(), b.CIDR, true, had)...)
	_, block, err := netutils.ParseCIDRSloppy(b.CIDR)
	if err != nil {
		return errs
	}
	bits, _ := block.Mask.Size()
	for i, s := range b.Except {
		p := path.Child("except").Index(i)
		errs = append(errs, utilvalidation.IsValidCIDRForLegacyField(p.Upstream(), s, true, had)...)
		_, except, err := netutils.ParseCIDRSloppy(s)
		if err != nil {
			continue
		}
		if n, _ := except.Mask.Size(); !block.Contains(except.IP) || bits >= n {
			errs = append(errs, field.Invalid(p, s, "must be a strict subset of `cidr`"))
		}
	}
	return errs
}
