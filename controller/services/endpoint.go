package services

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sagong/controller/podstate"
)

func ready(p *corev1.Pod) bool { return podstate.Ready(p) }

// belongs says whether a pod stands behind a Service at all: it has an address
// and has not ended.
func belongs(p *corev1.Pod, terminatingToo bool) bool {
	if podstate.Finished(p) || (p.Status.PodIP == "" && len(p.Status.PodIPs) == 0) {
		return false
	}
	return terminatingToo || p.DeletionTimestamp == nil
}

// addressOf returns a pod's address of a family; "" when it has none.
func addressOf(p *corev1.Pod, family corev1.IPFamily) string {
	for _, ip := range p.Status.PodIPs {
		if familyOf(ip.IP) == family {
			return ip.IP
		}
	}
	if len(p.Status.PodIPs) == 0 && familyOf(p.Status.PodIP) == family {
		return p.Status.PodIP
	}
	return ""
}

func familyOf(ip string) corev1.IPFamily {
	a, err := netip.ParseAddr(ip)
	switch {
	case err != nil:
		return ""
	case a.Unmap().Is4():
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// familiesOf returns the address families a Service is to have endpoints of.
func familiesOf(s *corev1.Service) []corev1.IPFamily {
	if len(s.Spec.IPFamilies) > 0 {
		return s.Spec.IPFamilies
	}
	if f := familyOf(s.Spec.ClusterIP); f != "" {
		return []corev1.IPFamily{f}
	}
	return []corev1.IPFamily{corev1.IPv4Protocol}
}

// hostnameOf is the name under which a headless Service publishes the pod.
func hostnameOf(p *corev1.Pod, s *corev1.Service) string {
	if p.Spec.Hostname != "" && p.Spec.Subdomain == s.Name && s.Namespace == p.Namespace {
		return p.Spec.Hostname
	}
	return ""
}

func headless(s *corev1.Service) bool { return s.Spec.ClusterIP == corev1.ClusterIPNone }

// targetPort resolves a Service's port on a pod: a name is looked up among the
// container ports, those of sidecars included.
func targetPort(p *corev1.Pod, sp *corev1.ServicePort) (int32, error) {
	switch sp.TargetPort.Type {
	case intstr.Int:
		if sp.TargetPort.IntVal == 0 {
			return sp.Port, nil
		}
		return sp.TargetPort.IntVal, nil
	default:
		protocol := sp.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		find := func(c *corev1.Container) (int32, bool) {
			for _, port := range c.Ports {
				have := port.Protocol
				if have == "" {
					have = corev1.ProtocolTCP
				}
				if port.Name == sp.TargetPort.StrVal && have == protocol {
					return port.ContainerPort, true
				}
			}
			return 0, false
		}
		for i := range p.Spec.Containers {
			if n, ok := find(&p.Spec.Containers[i]); ok {
				return n, nil
			}
		}
		for i := range p.Spec.InitContainers {
			c := &p.Spec.InitContainers[i]
			if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
				continue
			}
			if n, ok := find(c); ok {
				return n, nil
			}
		}
		return 0, fmt.Errorf("no suitable port for target port %q on pod %s", sp.TargetPort.StrVal, p.Name)
	}
}
