package core

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sagong/kinds/fill"
)

func defaultService(s *corev1.Service) {
	spec := &s.Spec
	fill.Zero(&spec.SessionAffinity, corev1.ServiceAffinityNone)
	if spec.SessionAffinity == corev1.ServiceAffinityNone {
		spec.SessionAffinityConfig = nil
	}
	if spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		c := spec.SessionAffinityConfig
		if c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
			seconds := corev1.DefaultClientIPServiceAffinitySeconds
			spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
		}
	}
	fill.Zero(&spec.Type, corev1.ServiceTypeClusterIP)
	for i := range spec.Ports {
		p := &spec.Ports[i]
		fill.Zero(&p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == intstr.FromInt32(0) || p.TargetPort == intstr.FromString("") {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if reachableFromOutside(s) {
		fill.Zero(&spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	if spec.Type != corev1.ServiceTypeExternalName {
		fill.Ptr(&spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		fill.Ptr(&spec.AllocateLoadBalancerNodePorts, true)
		for i := range s.Status.LoadBalancer.Ingress {
			if in := &s.Status.LoadBalancer.Ingress[i]; in.IP != "" {
				fill.Ptr(&in.IPMode, corev1.LoadBalancerIPModeVIP)
			}
		}
	}
}

func reachableFromOutside(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeClusterIP:
		return len(s.Spec.ExternalIPs) > 0
	}
	return false
}

func needsNodePort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer &&
		(s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts)
}

func needsHealthCheckPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

func prepareServiceCreate(_ context.Context, s *corev1.Service) {
	s.Status = corev1.ServiceStatus{}
	if s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
}

// prepareServiceUpdate lets a client write a service without the values that
// were allocated for it, and change its type without clearing them by hand.
func prepareServiceUpdate(_ context.Context, s, old *corev1.Service) {
	n, o := &s.Spec, &old.Spec
	alignClusterIPs(n, o)
	if n.Type != corev1.ServiceTypeExternalName && o.Type != corev1.ServiceTypeExternalName {
		fill.Zero(&n.ClusterIP, o.ClusterIP)
		if len(n.ClusterIPs) == 0 && n.ClusterIP == o.ClusterIP {
			n.ClusterIPs = slices.Clone(o.ClusterIPs)
		}
	}
	if needsNodePort(s) && needsNodePort(old) {
		keepNodePorts(n, o)
	}
	if needsHealthCheckPort(s) && needsHealthCheckPort(old) {
		fill.Zero(&n.HealthCheckNodePort, o.HealthCheckNodePort)
	}

	// What the old type had and the new has no use for goes, unless the client
	// set something new there: that is for validation to refuse.
	if n.Type == corev1.ServiceTypeExternalName && o.Type != corev1.ServiceTypeExternalName {
		if n.ClusterIP == o.ClusterIP && slices.Equal(n.ClusterIPs, o.ClusterIPs) {
			n.ClusterIP, n.ClusterIPs = "", nil
		}
		if slices.Equal(n.IPFamilies, o.IPFamilies) {
			n.IPFamilies = nil
		}
		if same(n.IPFamilyPolicy, o.IPFamilyPolicy) {
			n.IPFamilyPolicy = nil
		}
		if same(n.InternalTrafficPolicy, o.InternalTrafficPolicy) {
			n.InternalTrafficPolicy = nil
		}
	}
	if needsNodePort(old) && !needsNodePort(s) && sameNodePorts(n, o) {
		for i := range n.Ports {
			n.Ports[i].NodePort = 0
		}
	}
	if needsHealthCheckPort(old) && !needsHealthCheckPort(s) && n.HealthCheckNodePort == o.HealthCheckNodePort {
		n.HealthCheckNodePort = 0
	}
	if o.Type == corev1.ServiceTypeLoadBalancer && n.Type != corev1.ServiceTypeLoadBalancer {
		if same(n.AllocateLoadBalancerNodePorts, o.AllocateLoadBalancerNodePorts) {
			n.AllocateLoadBalancerNodePorts = nil
		}
		if same(n.LoadBalancerClass, o.LoadBalancerClass) {
			n.LoadBalancerClass = nil
		}
	}
	if reachableFromOutside(old) && !reachableFromOutside(s) && n.ExternalTrafficPolicy == o.ExternalTrafficPolicy {
		n.ExternalTrafficPolicy = ""
	}
}

func same[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// alignClusterIPs makes clusterIP and clusterIPs agree when a client that
// knows only one of the two has changed that one.
func alignClusterIPs(n, o *corev1.ServiceSpec) {
	if len(o.ClusterIPs) == 0 && n.ClusterIP != "" && len(n.ClusterIPs) == 0 {
		n.ClusterIPs = []string{n.ClusterIP}
	}
	sameIPs := slices.Equal(n.ClusterIPs, o.ClusterIPs)
	if n.ClusterIP != o.ClusterIP {
		switch {
		case n.ClusterIP == "" && sameIPs:
			n.ClusterIPs = nil
		case n.ClusterIP != "" && sameIPs:
			n.ClusterIPs = []string{n.ClusterIP}
		}
	} else if o.ClusterIP != "" && len(n.ClusterIPs) == 0 && len(o.ClusterIPs) > 0 && n.Type == corev1.ServiceTypeExternalName {
		n.ClusterIP = ""
	}
}

func keepNodePorts(n, o *corev1.ServiceSpec) {
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	had, used := map[key]int32{}, map[int32]bool{}
	for _, p := range o.Ports {
		had[key{p.Protocol, p.Port}] = p.NodePort
	}
	for _, p := range n.Ports {
		used[p.NodePort] = true
	}
	for i := range n.Ports {
		p := &n.Ports[i]
		if port := had[key{p.Protocol, p.Port}]; p.NodePort == 0 && port != 0 && !used[port] {
			p.NodePort = port
			used[port] = true
		}
	}
}

func sameNodePorts(n, o *corev1.ServiceSpec) bool {
	have := map[int32]bool{}
	for _, p := range o.Ports {
		have[p.NodePort] = true
	}
	for _, p := range n.Ports {
		if p.NodePort != 0 && !have[p.NodePort] {
			return false
		}
	}
	return true
}
