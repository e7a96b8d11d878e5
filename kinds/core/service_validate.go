package core

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	netutils "k8s.io/utils/net"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

const (
	maxAffinitySeconds = 86400
	onlyLoadBalancer   = "may only be used when `type` is 'LoadBalancer'"
)

func headless(s *corev1.Service) bool {
	return len(s.Spec.ClusterIPs) == 1 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone || s.Spec.ClusterIP == corev1.ClusterIPNone
}

func validateService(s *corev1.Service) field.ErrorList {
	return validateServiceOf(s, &corev1.Service{})
}

// validateServiceOf checks a service, in upstream's order. What old has of
// addresses may stay in a form that is no longer let pass.
func validateServiceOf(s, old *corev1.Service) (errs field.ErrorList) {
	spec := &s.Spec
	mode, set := s.Annotations[corev1.AnnotationTopologyMode]
	if hints, ok := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]; ok && set && mode != hints {
		errs = append(errs, field.Invalid(annotationsPath.Key(corev1.AnnotationTopologyMode), mode,
			fmt.Sprintf("must match annotations[%s] when both are specified", corev1.DeprecatedAnnotationTopologyAwareHints)))
	}
	if len(spec.Ports) == 0 && !headless(s) && spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(specPath.Child("ports"), ""))
	}
	switch spec.Type {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		if headless(s) {
			errs = append(errs, field.Invalid(specPath.Child("clusterIPs").Index(0), corev1.ClusterIPNone, fmt.Sprintf("may not be set to 'None' for %s services", spec.Type)))
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
	errs = append(errs, validateServicePorts(spec.Ports)...)
	errs = append(errs, metav1validation.ValidateLabels(spec.Selector, specPath.Child("selector").Upstream())...)
	errs = append(errs, validateSessionAffinity(spec)...)
	errs = append(errs, validateClusterIPs(s, old)...)
	for i, ip := range spec.ExternalIPs {
		p := specPath.Child("externalIPs").Index(i)
		if bad := utilvalidation.IsValidIPForLegacyField(p.Upstream(), ip, true, old.Spec.ExternalIPs); len(bad) > 0 {
			errs = append(errs, bad...)
		} else {
			errs = append(errs, ordinaryIP(ip, p)...)
		}
	}
	errs = append(errs, check.RequiredOneOf(specPath.Child("type"), spec.Type,
		corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)...)
	errs = append(errs, validatePortsTogether(spec)...)
	errs = append(errs, validateSourceRanges(s, old)...)
	if balanced := spec.Type == corev1.ServiceTypeLoadBalancer; spec.AllocateLoadBalancerNodePorts != nil && !balanced {
		errs = append(errs, field.Forbidden(specPath.Child("allocateLoadBalancerNodePorts"), onlyLoadBalancer))
	} else if spec.AllocateLoadBalancerNodePorts == nil && balanced {
		errs = append(errs, field.Required(field.NewPath("allocateLoadBalancerNodePorts"), ""))
	}
	errs = append(errs, validateLoadBalancerClass(spec)...)
	return append(errs, validateTrafficPolicies(s)...)
}

func validateServicePorts(ports []corev1.ServicePort) (errs field.ErrorList) {
	names := map[string]bool{}
	for i, port := range ports {
		p := specPath.Child("ports").Index(i)
		switch {
		case port.Name == "" && len(ports) > 1:
			errs = append(errs, field.Required(p.Child("name"), ""))
		case port.Name != "":
			errs = append(errs, check.Rule(p.Child("name"), port.Name, check.IsDNS1123Label)...)
			if names[port.Name] {
				errs = append(errs, field.Duplicate(p.Child("name"), port.Name))
			}
			names[port.Name] = true
		}
		errs = append(errs, check.Port(p.Child("port"), port.Port)...)
		errs = append(errs, check.RequiredOneOf(p.Child("protocol"), port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
		errs = append(errs, check.PortOrName(p.Child("targetPort"), port.TargetPort)...)
		if port.AppProtocol != nil {
			errs = append(errs, check.Rule(p.Child("appProtocol"), *port.AppProtocol, check.IsQualifiedName)...)
		}
	}
	return errs
}

// validatePortsTogether refuses ports on nodes where there are none, and the same
// port twice.
func validatePortsTogether(spec *corev1.ServiceSpec) (errs field.ErrorList) {
	path := specPath.Child("ports")
	if spec.Type == corev1.ServiceTypeClusterIP {
		for i, port := range spec.Ports {
			if port.NodePort != 0 {
				errs = append(errs, field.Forbidden(path.Index(i).Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
			}
		}
	}
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	seen := map[key]bool{}
	for i, port := range spec.Ports {
		k := key{port.Protocol, port.NodePort}
		if port.NodePort == 0 {
			continue
		}
		if seen[k] {
			errs = append(errs, field.Duplicate(path.Index(i).Child("nodePort"), port.NodePort))
		}
		seen[k] = true
	}
	clear(seen)
	for i, port := range spec.Ports {
		k := key{port.Protocol, port.Port}
		if seen[k] {
			errs = append(errs, field.Duplicate(path.Index(i), corev1.ServicePort{Protocol: port.Protocol, Port: port.Port}))
		}
		seen[k] = true
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

func validateClusterIPs(s, old *corev1.Service) (errs field.ErrorList) {
	spec := &s.Spec
	if spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	path, families := specPath.Child("clusterIPs"), specPath.Child("ipFamilies")
	ips := spec.ClusterIPs
	switch {
	case spec.ClusterIP == "" && len(ips) > 0:
		errs = append(errs, field.Invalid(path, ips, "must be empty when `clusterIP` is not specified"))
	case spec.ClusterIP != "" && len(ips) == 0:
		errs = append(errs, field.Required(path, ""))
	case spec.ClusterIP != "" && ips[0] != spec.ClusterIP:
		errs = append(errs, field.Invalid(path, ips, "first value must match `clusterIP`"))
	}
	for i, f := range spec.IPFamilies {
		errs = append(errs, check.OneOf(families.Index(i), f, corev1.IPv4Protocol, corev1.IPv6Protocol)...)
		if slices.Contains(spec.IPFamilies[:i], f) {
			errs = append(errs, field.Duplicate(families.Index(i), f))
		}
	}
	if spec.IPFamilyPolicy != nil {
		errs = append(errs, check.OneOf(specPath.Child("ipFamilyPolicy"), *spec.IPFamilyPolicy,
			corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack)...)
	}
	bad := false
	for i, ip := range ips {
		if i == 0 && ip == corev1.ClusterIPNone {
			if len(ips) > 1 {
				bad = true
				errs = append(errs, field.Invalid(path, ips, "'None' must be the first and only value"))
			}
			continue
		}
		wrong := utilvalidation.IsValidIPForLegacyField(path.Index(i).Upstream(), ip, true, old.Spec.ClusterIPs)
		bad = bad || len(wrong) > 0
		errs = append(errs, wrong...)
	}
	if len(ips) > 2 {
		errs = append(errs, field.Invalid(path, ips, "may only hold up to 2 values"))
	}
	if bad {
		return errs
	}
	if len(ips) > 1 {
		dual, err := netutils.IsDualStackIPStrings(ips)
		if err != nil {
			errs = append(errs, field.InternalError(path, fmt.Errorf("failed to check for dual stack with error:%v", err)))
		}
		if !dual {
			errs = append(errs, field.Invalid(path, ips, "may specify no more than one IP for each IP family"))
		}
	}
	if headless(s) {
		return errs
	}
	for i := range min(len(ips), len(spec.IPFamilies)) {
		if f := spec.IPFamilies[i]; f == corev1.IPv4Protocol && netutils.IsIPv6String(ips[i]) || f == corev1.IPv6Protocol && !netutils.IsIPv6String(ips[i]) {
			errs = append(errs, field.Invalid(path.Index(i), ips[i], fmt.Sprintf("expected an %v value as indicated by `ipFamilies[%v]`", f, i)))
		}
	}
	return errs
}

// ordinaryIP refuses addresses no peer can be reached at.
func ordinaryIP(s string, path *field.Path) (errs field.ErrorList) {
	ip := netutils.ParseIPSloppy(s)
	if ip == nil {
		return field.ErrorList{field.Invalid(path, s, "must be a valid IP address")}
	}
	for _, bad := range []struct {
		is   bool
		text string
	}{
		{ip.IsUnspecified(), fmt.Sprintf("may not be unspecified (%v)", s)},
		{ip.IsLoopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"},
		{ip.IsLinkLocalUnicast(), "may not be in the link-local range (169.254.0.0/16, fe80::/10)"},
		{ip.IsLinkLocalMulticast(), "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"},
	} {
		if bad.is {
			errs = append(errs, field.Invalid(path, s, bad.text))
		}
	}
	return errs
}

// validateSourceRanges checks whom a load balancer serves, in the field or the
// older annotation. Space around a range is part of the API.
func validateSourceRanges(s, old *corev1.Service) (errs field.ErrorList) {
	balanced := s.Spec.Type == corev1.ServiceTypeLoadBalancer
	if len(s.Spec.LoadBalancerSourceRanges) > 0 {
		p := specPath.Child("LoadBalancerSourceRanges")
		if !balanced {
			errs = append(errs, field.Forbidden(p, onlyLoadBalancer))
		}
		was := make([]string, len(old.Spec.LoadBalancerSourceRanges))
		for i, cidr := range old.Spec.LoadBalancerSourceRanges {
			was[i] = strings.TrimSpace(cidr)
		}
		for i, cidr := range s.Spec.LoadBalancerSourceRanges {
			errs = append(errs, utilvalidation.IsValidCIDRForLegacyField(p.Index(i).Upstream(), strings.TrimSpace(cidr), true, was)...)
		}
		return errs
	}
	val, ok := s.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey]
	if !ok {
		return nil
	}
	p := annotationsPath.Key(corev1.AnnotationLoadBalancerSourceRangesKey)
	if !balanced {
		errs = append(errs, field.Forbidden(p, onlyLoadBalancer))
	}
	if had := old.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey]; had == val || strings.TrimSpace(val) == "" {
		return errs
	}
	for cidr := range strings.SplitSeq(strings.TrimSpace(val), ",") {
		errs = append(errs, utilvalidation.IsValidCIDRForLegacyField(p.Upstream(), strings.TrimSpace(cidr), true, nil)...)
	}
	return errs
}

func validateLoadBalancerClass(spec *corev1.ServiceSpec) field.ErrorList {
	p := specPath.Child("loadBalancerClass")
	switch {
	case spec.LoadBalancerClass == nil:
		return nil
	case spec.Type != corev1.ServiceTypeLoadBalancer:
		return field.ErrorList{field.Forbidden(p, onlyLoadBalancer)}
	}
	return check.Rule(p, *spec.LoadBalancerClass, check.IsQualifiedName)
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
	case spec.Type == corev1.ServiceTypeClusterIP || spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer:
		errs = append(errs, field.Required(p, ""))
	}
	if spec.TrafficDistribution != nil {
		errs = append(errs, check.Listed(specPath.Child("trafficDistribution"), *spec.TrafficDistribution,
			corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode)...)
	}
	return errs
}

func validateServiceUpdate(s, old *corev1.Service) (errs field.ErrorList) {
	n, o := &s.Spec, &old.Spec
	if n.Type != corev1.ServiceTypeExternalName && o.Type != corev1.ServiceTypeExternalName {
		if !headless(s) || !headless(old) {
			errs = append(errs, changedClusterIPs(n, o)...)
		}
		if !headless(s) && !headless(old) {
			errs = append(errs, changedFamilies(n, o)...)
		}
	}
	if o.Type == corev1.ServiceTypeLoadBalancer && n.Type == corev1.ServiceTypeLoadBalancer && !same(n.LoadBalancerClass, o.LoadBalancerClass) {
		errs = append(errs, field.Invalid(specPath.Child("loadBalancerClass"), n.LoadBalancerClass, "may not change once set"))
	}
	errs = append(errs, validateLoadBalancerClass(n)...)
	if needsHealthCheckPort(old) && needsHealthCheckPort(s) && n.HealthCheckNodePort != o.HealthCheckNodePort {
		errs = append(errs, field.Forbidden(specPath.Child("healthCheckNodePort"), "field is immutable"))
	}
	return append(errs, validateServiceOf(s, old)...)
}

const onceSet = "may not change once set"

// changedClusterIPs lets the second address come and go, not the first.
func changedClusterIPs(n, o *corev1.ServiceSpec) (errs field.ErrorList) {
	p := specPath.Child("clusterIPs")
	now, was := n.ClusterIPs, o.ClusterIPs
	if len(now) == len(was) {
		for i := range was {
			if now[i] != was[i] {
				errs = append(errs, field.Invalid(p.Index(i), now, onceSet))
			}
		}
		return errs
	}
	if len(now) == 0 {
		errs = append(errs, field.Invalid(p.Index(0), now, "primary clusterIP can not be unset"))
	}
	if len(now) > 0 && len(was) > 0 && now[0] != was[0] {
		errs = append(errs, field.Invalid(p.Index(0), now, onceSet))
	}
	if len(now) < len(was) && len(now) == 1 {
		errs = append(errs, singleStack(n, "clusterIP")...)
	}
	return errs
}

func singleStack(n *corev1.ServiceSpec, what string) field.ErrorList {
	if n.IPFamilyPolicy != nil && *n.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack {
		return nil
	}
	return field.ErrorList{field.Invalid(specPath.Child("ipFamilyPolicy"), n.IPFamilyPolicy, "must be set to 'SingleStack' when releasing the secondary "+what)}
}

// changedFamilies is changedClusterIPs for families. It shows what upstream shows.
func changedFamilies(n, o *corev1.ServiceSpec) (errs field.ErrorList) {
	p := specPath.Child("ipFamilies").Index(0)
	now, was := n.IPFamilies, o.IPFamilies
	if len(now) == len(was) {
		for i := range was {
			if now[i] != was[i] {
				errs = append(errs, field.Invalid(p, now, onceSet))
			}
		}
		return errs
	}
	if len(now) < len(was) && len(n.ClusterIPs) == 0 {
		errs = append(errs, field.Invalid(p, now, "primary ipFamily can not be unset"))
	}
	if len(now) > 0 && len(was) > 0 && now[0] != was[0] {
		errs = append(errs, field.Invalid(p, n.ClusterIPs, onceSet))
	}
	if len(now) < len(was) && len(now) == 1 {
		errs = append(errs, singleStack(n, "ipFamily")...)
	}
	return errs
}

func validateServiceStatus(s, old *corev1.Service) (errs field.ErrorList) {
	path := field.NewPath("status", "loadBalancer", "ingress")
	if len(s.Status.LoadBalancer.Ingress) > 0 && s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return field.ErrorList{field.Forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")}
	}
	var was []string
	for _, in := range old.Status.LoadBalancer.Ingress {
		if in.IP != "" {
			was = append(was, in.IP)
		}
	}
	for i, in := range s.Status.LoadBalancer.Ingress {
		p := path.Index(i)
		if in.IP != "" {
			errs = append(errs, utilvalidation.IsValidIPForLegacyField(p.Child("ip").Upstream(), in.IP, true, was)...)
		}
		switch {
		case in.IPMode == nil && in.IP != "":
			errs = append(errs, field.Required(p.Child("ipMode"), "must be specified when `ip` is set"))
		case in.IPMode != nil && in.IP == "":
			errs = append(errs, field.Forbidden(p.Child("ipMode"), "may not be specified when `ip` is not set"))
		case in.IPMode != nil:
			errs = append(errs, check.OneOf(p.Child("ipMode"), *in.IPMode, corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy)...)
		}
		if in.Hostname != "" {
			errs = append(errs, check.Rule(p.Child("hostname"), in.Hostname, utilvalidation.IsDNS1123Subdomain)...)
			if netutils.ParseIPSloppy(in.Hostname) != nil {
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
