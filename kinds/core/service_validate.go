package core

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
)

const (
	// kubeletPort is one that a load balancer must not expose.
	kubeletPort        = 10250
	maxAffinitySeconds = 86400
	onlyLoadBalancer   = "may only be used when `type` is 'LoadBalancer'"
)

func headless(s *corev1.Service) bool {
	return len(s.Spec.ClusterIPs) == 1 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone || s.Spec.ClusterIP == corev1.ClusterIPNone
}

func validateService(s *corev1.Service) (errs field.ErrorList) {
	spec := &s.Spec
	if len(spec.Ports) == 0 && !headless(s) && spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(specPath.Child("ports"), ""))
	}
	switch spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		for i, p := range spec.Ports {
			if p.Port == kubeletPort {
				errs = append(errs, field.Invalid(specPath.Child("ports").Index(i), p.Port, fmt.Sprintf("may not expose port %v externally since it is used by kubelet", kubeletPort)))
			}
		}
		if headless(s) {
			errs = append(errs, field.Invalid(specPath.Child("clusterIPs").Index(0), corev1.ClusterIPNone, "may not be set to 'None' for LoadBalancer services"))
		}
	case corev1.ServiceTypeNodePort:
		if headless(s) {
			errs = append(errs, field.Invalid(specPath.Child("clusterIPs").Index(0), corev1.ClusterIPNone, "may not be set to 'None' for NodePort services"))
		}
	case corev1.ServiceTypeExternalName:
		const not = "may not be set for ExternalName services"
		if len(spec.ClusterIPs) > 0 || spec.ClusterIP != "" {
			errs = append(errs, field.Forbidden(specPath.Child("clusterIPs"), not))
		}
		if len(spec.IPFamilies) > 0 {
			errs = append(errs, field.Forbidden(specPath.Child("ipFamilies"), not))
		}
		if spec.IPFamilyPolicy != nil {
			errs = append(errs, field.Forbidden(specPath.Child("ipFamilyPolicy"), not))
		}
		errs = append(errs, check.RequiredName(specPath.Child("externalName"), strings.TrimSuffix(spec.ExternalName, "."), utilvalidation.IsDNS1123Subdomain)...)
	}
	errs = append(errs, validateServicePorts(s)...)
	errs = append(errs, metav1validation.ValidateLabels(spec.Selector, specPath.Child("selector"))...)
	errs = append(errs, validateSessionAffinity(spec)...)
	errs = append(errs, validateClusterIPs(s)...)
	for i, ip := range spec.ExternalIPs {
		p := specPath.Child("externalIPs").Index(i)
		if bad := utilvalidation.IsValidIPForLegacyField(p, ip, true, nil); len(bad) > 0 {
			errs = append(errs, bad...)
		} else {
			errs = append(errs, ordinaryIP(ip, p)...)
		}
	}
	errs = append(errs, check.RequiredOneOf(specPath.Child("type"), spec.Type,
		corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)...)
	errs = append(errs, validateLoadBalancer(spec)...)
	return append(errs, validateTrafficPolicies(s)...)
}

func validateServicePorts(s *corev1.Service) (errs field.ErrorList) {
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	names, ports, nodePorts := map[string]bool{}, map[key]bool{}, map[key]bool{}
	for i, port := range s.Spec.Ports {
		p := specPath.Child("ports").Index(i)
		switch {
		case port.Name == "" && len(s.Spec.Ports) > 1:
			errs = append(errs, field.Required(p.Child("name"), ""))
		case port.Name != "":
			errs = append(errs, check.Rule(p.Child("name"), port.Name, utilvalidation.IsDNS1123Label)...)
			if names[port.Name] {
				errs = append(errs, field.Duplicate(p.Child("name"), port.Name))
			}
			names[port.Name] = true
		}
		errs = append(errs, check.Port(p.Child("port"), port.Port)...)
		errs = append(errs, check.RequiredOneOf(p.Child("protocol"), port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
		errs = append(errs, check.PortOrName(p.Child("targetPort"), port.TargetPort)...)
		if port.AppProtocol != nil {
			errs = append(errs, check.Rule(p.Child("appProtocol"), *port.AppProtocol, utilvalidation.IsQualifiedName)...)
		}
		if port.NodePort != 0 {
			if s.Spec.Type == corev1.ServiceTypeClusterIP {
				errs = append(errs, field.Forbidden(p.Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
			}
			k := key{port.Protocol, port.NodePort}
			if nodePorts[k] {
				errs = append(errs, field.Duplicate(p.Child("nodePort"), port.NodePort))
			}
			nodePorts[k] = true
		}
		k := key{port.Protocol, port.Port}
		if ports[k] {
			errs = append(errs, field.Duplicate(p, corev1.ServicePort{Protocol: port.Protocol, Port: port.Port}))
		}
		ports[k] = true
	}
	return errs
}

func validateSessionAffinity(spec *corev1.ServiceSpec) field.ErrorList {
	errs := check.RequiredOneOf(specPath.Child("sessionAffinity"), spec.SessionAffinity, corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)
	p, c := specPath.Child("sessionAffinityConfig"), spec.SessionAffinityConfig
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityNone:
		if c != nil {
			errs = append(errs, field.Forbidden(p, "must not be set when session affinity is None"))
		}
	case corev1.ServiceAffinityClientIP:
		switch {
		case c == nil:
			errs = append(errs, field.Required(p, "when session affinity type is ClientIP"))
		case c.ClientIP == nil:
			errs = append(errs, field.Required(p.Child("clientIP"), "when session affinity type is ClientIP"))
		case c.ClientIP.TimeoutSeconds == nil:
			errs = append(errs, field.Required(p.Child("clientIP", "timeoutSeconds"), "when session affinity type is ClientIP"))
		case *c.ClientIP.TimeoutSeconds <= 0 || *c.ClientIP.TimeoutSeconds > maxAffinitySeconds:
			errs = append(errs, field.Invalid(p.Child("clientIP", "timeoutSeconds"), *c.ClientIP.TimeoutSeconds,
				fmt.Sprintf("must be greater than 0 and less than %d", maxAffinitySeconds)))
		}
	}
	return errs
}

func validateClusterIPs(s *corev1.Service) (errs field.ErrorList) {
	spec := &s.Spec
	if spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	path, families := specPath.Child("clusterIPs"), specPath.Child("ipFamilies")
	for i, f := range spec.IPFamilies {
		errs = append(errs, check.OneOf(families.Index(i), f, corev1.IPv4Protocol, corev1.IPv6Protocol)...)
		if i > 0 && slices.Contains(spec.IPFamilies[:i], f) {
			errs = append(errs, field.Duplicate(families.Index(i), f))
		}
	}
	if spec.IPFamilyPolicy != nil {
		errs = append(errs, check.OneOf(specPath.Child("ipFamilyPolicy"), *spec.IPFamilyPolicy,
			corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack)...)
	}
	if len(spec.ClusterIPs) == 0 {
		if spec.ClusterIP != "" {
			errs = append(errs, field.Required(path, ""))
		}
		return errs
	}
	if spec.ClusterIP != spec.ClusterIPs[0] {
		errs = append(errs, field.Invalid(path, spec.ClusterIPs, "first value must match `clusterIP`"))
	}
	if spec.ClusterIPs[0] == corev1.ClusterIPNone {
		if len(spec.ClusterIPs) > 1 {
			errs = append(errs, field.Invalid(path, spec.ClusterIPs, "'None' must be the first and only value"))
		}
		return errs
	}
	var v6 []bool
	for i, ip := range spec.ClusterIPs {
		if i > 0 && ip == corev1.ClusterIPNone {
			errs = append(errs, field.Invalid(path.Index(i), ip, "'None' must be the first and only value"))
			continue
		}
		bad := utilvalidation.IsValidIPForLegacyField(path.Index(i), ip, true, nil)
		errs = append(errs, bad...)
		if len(bad) > 0 {
			continue
		}
		is6 := strings.Contains(ip, ":")
		v6 = append(v6, is6)
		if i < len(spec.IPFamilies) && (spec.IPFamilies[i] == corev1.IPv6Protocol) != is6 {
			errs = append(errs, field.Invalid(path.Index(i), ip, fmt.Sprintf("expected an %v value as indicated by `ipFamilies[%v]`", spec.IPFamilies[i], i)))
		}
	}
	switch {
	case len(spec.ClusterIPs) > 2:
		errs = append(errs, field.Invalid(path, spec.ClusterIPs, "may only hold up to 2 values"))
	case len(v6) == 2 && v6[0] == v6[1]:
		errs = append(errs, field.Invalid(path, spec.ClusterIPs, "may specify no more than one IP for each IP family"))
	}
	return errs
}

// ordinaryIP refuses addresses no peer can be reached at.
func ordinaryIP(s string, path *field.Path) (errs field.ErrorList) {
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return nil
	}
	switch {
	case ip.IsUnspecified():
		errs = append(errs, field.Invalid(path, s, fmt.Sprintf("may not be unspecified (%v)", s)))
	case ip.IsLoopback():
		errs = append(errs, field.Invalid(path, s, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
	case ip.IsLinkLocalUnicast():
		errs = append(errs, field.Invalid(path, s, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
	case ip.IsLinkLocalMulticast():
		errs = append(errs, field.Invalid(path, s, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"))
	}
	return errs
}

func validateLoadBalancer(spec *corev1.ServiceSpec) (errs field.ErrorList) {
	balanced := spec.Type == corev1.ServiceTypeLoadBalancer
	if len(spec.LoadBalancerSourceRanges) > 0 {
		p := specPath.Child("LoadBalancerSourceRanges")
		if !balanced {
			errs = append(errs, field.Forbidden(p, onlyLoadBalancer))
		}
		for i, cidr := range spec.LoadBalancerSourceRanges {
			errs = append(errs, utilvalidation.IsValidCIDRForLegacyField(p.Index(i), strings.TrimSpace(cidr), false, nil)...)
		}
	}
	if spec.AllocateLoadBalancerNodePorts != nil && !balanced {
		errs = append(errs, field.Forbidden(specPath.Child("allocateLoadBalancerNodePorts"), onlyLoadBalancer))
	}
	if spec.AllocateLoadBalancerNodePorts == nil && balanced {
		errs = append(errs, field.Required(specPath.Child("allocateLoadBalancerNodePorts"), ""))
	}
	if spec.LoadBalancerClass != nil {
		p := specPath.Child("loadBalancerClass")
		if !balanced {
			errs = append(errs, field.Forbidden(p, onlyLoadBalancer))
		} else {
			errs = append(errs, check.Rule(p, *spec.LoadBalancerClass, utilvalidation.IsQualifiedName)...)
		}
	}
	return errs
}

func validateTrafficPolicies(s *corev1.Service) (errs field.ErrorList) {
	spec := &s.Spec
	p := specPath.Child("externalTrafficPolicy")
	switch reachable := reachableFromOutside(s); {
	case !reachable && spec.ExternalTrafficPolicy != "":
		errs = append(errs, field.Invalid(p, spec.ExternalTrafficPolicy, "may only be set for externally-accessible services"))
	case reachable:
		errs = append(errs, check.RequiredOneOf(p, spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)...)
	}
	if n := spec.HealthCheckNodePort; n != 0 {
		p := specPath.Child("healthCheckNodePort")
		if !needsHealthCheckPort(s) {
			errs = append(errs, field.Invalid(p, n, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
		} else {
			errs = append(errs, check.Port(p, n)...)
		}
	}
	p = specPath.Child("internalTrafficPolicy")
	switch {
	case spec.InternalTrafficPolicy != nil:
		errs = append(errs, check.OneOf(p, *spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)...)
	case spec.Type != corev1.ServiceTypeExternalName:
		errs = append(errs, field.Required(p, ""))
	}
	if spec.TrafficDistribution != nil {
		errs = append(errs, check.OneOf(specPath.Child("trafficDistribution"), *spec.TrafficDistribution,
			corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode)...)
	}
	return errs
}

func validateServiceUpdate(s, old *corev1.Service) (errs field.ErrorList) {
	n, o := &s.Spec, &old.Spec
	if n.Type != corev1.ServiceTypeExternalName && o.Type != corev1.ServiceTypeExternalName && len(o.ClusterIPs) > 0 {
		p := specPath.Child("clusterIPs")
		switch {
		case len(n.ClusterIPs) == 0:
			errs = append(errs, field.Invalid(p.Index(0), n.ClusterIPs, "primary clusterIP can not be unset"))
		default:
			for i := range min(len(n.ClusterIPs), len(o.ClusterIPs)) {
				if n.ClusterIPs[i] != o.ClusterIPs[i] {
					errs = append(errs, field.Invalid(p.Index(i), n.ClusterIPs, "may not change once set"))
				}
			}
		}
		if len(o.IPFamilies) > 0 && len(n.IPFamilies) > 0 && o.IPFamilies[0] != n.IPFamilies[0] {
			errs = append(errs, field.Invalid(specPath.Child("ipFamilies").Index(0), n.IPFamilies, "may not change once set"))
		}
	}
	if o.Type == corev1.ServiceTypeLoadBalancer && n.Type == corev1.ServiceTypeLoadBalancer && !same(n.LoadBalancerClass, o.LoadBalancerClass) {
		errs = append(errs, field.Invalid(specPath.Child("loadBalancerClass"), n.LoadBalancerClass, "may not change once set"))
	}
	return append(errs, validateService(s)...)
}

func validateServiceStatus(s, _ *corev1.Service) (errs field.ErrorList) {
	path := field.NewPath("status", "loadBalancer", "ingress")
	if len(s.Status.LoadBalancer.Ingress) > 0 && s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		errs = append(errs, field.Forbidden(path, "may only be used when `spec.type` is \"LoadBalancer\""))
	}
	for i, in := range s.Status.LoadBalancer.Ingress {
		p := path.Index(i)
		if in.IP != "" {
			errs = append(errs, utilvalidation.IsValidIPForLegacyField(p.Child("ip"), in.IP, true, nil)...)
			if in.IPMode != nil {
				errs = append(errs, check.OneOf(p.Child("ipMode"), *in.IPMode, corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy)...)
			}
		} else if in.IPMode != nil {
			errs = append(errs, field.Forbidden(p.Child("ipMode"), "may not be specified when `ip` is not set"))
		}
		if in.Hostname != "" {
			errs = append(errs, check.Rule(p.Child("hostname"), in.Hostname, utilvalidation.IsDNS1123Subdomain)...)
			if _, err := netip.ParseAddr(in.Hostname); err == nil {
				errs = append(errs, field.Invalid(p.Child("hostname"), in.Hostname, "must be a DNS name, not an IP address"))
			}
		}
	}
	return errs
}

func serviceWarnings(s, _ *corev1.Service) (out []string) {
	if headless(s) {
		if s.Spec.LoadBalancerIP != "" {
			out = append(out, "spec.loadBalancerIP is ignored for headless services")
		}
		if len(s.Spec.ExternalIPs) > 0 {
			out = append(out, "spec.externalIPs is ignored for headless services")
		}
		if s.Spec.SessionAffinity != corev1.ServiceAffinityNone {
			out = append(out, "spec.SessionAffinity is ignored for headless services")
		}
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName && len(s.Spec.ExternalIPs) > 0 {
		out = append(out, `spec.externalIPs is ignored when type is "ExternalName"`)
	}
	if s.Spec.Type != corev1.ServiceTypeExternalName && s.Spec.ExternalName != "" {
		out = append(out, `spec.externalName is ignored when type is not "ExternalName"`)
	}
	return out
}
