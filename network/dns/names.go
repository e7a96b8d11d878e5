package dns

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// serviceNames decides which names a Service has, after the specification
// "Kubernetes DNS-Based Service Discovery". It is pure. Faults are names that
// cannot be served.
func serviceNames(zone string, s *corev1.Service, slices []*discoveryv1.EndpointSlice) (map[string]contribution, []error) {
	if s == nil {
		return nil, nil
	}
	n := &naming{out: map[string]contribution{}}
	namespace := s.Namespace + ".svc." + zone
	own := s.Name + "." + namespace
	// The namespace's name exists as long as a Service below it does.
	n.add(namespace, contribution{})
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		n.externalName(own, s.Spec.ExternalName)
	case isHeadless(s):
		n.headless(own, s, slices)
	default:
		n.clusterIP(own, s)
	}
	return n.out, n.faults
}

func isHeadless(s *corev1.Service) bool {
	return s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone
}

type naming struct {
	out    map[string]contribution
	faults []error
}

// add adds to what the owner says about a name.
func (n *naming) add(name string, c contribution) {
	wire, err := packName(name)
	if err != nil {
		n.faults = append(n.faults, err)
		return
	}
	old := n.out[wire]
	old.addrs = append(old.addrs, c.addrs...)
	old.srv = append(old.srv, c.srv...)
	if c.cname != "" {
		old.cname = c.cname
	}
	if c.ptr != "" {
		old.ptr = c.ptr
	}
	n.out[wire] = old
}

// externalName makes the Service an alias.
func (n *naming) externalName(own, target string) {
	if target == "" {
		n.add(own, contribution{})
		return
	}
	n.add(own, contribution{cname: strings.TrimSuffix(target, ".") + "."})
}

func (n *naming) clusterIP(own string, s *corev1.Service) {
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{s.Spec.ClusterIP}
	}
	var addrs []netip.Addr
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip); err == nil {
			addrs = append(addrs, a.Unmap())
		}
	}
	// A Service without an address yet has no records, but it exists.
	n.add(own, contribution{addrs: addrs})
	if len(addrs) == 0 {
		return
	}
	for _, p := range s.Spec.Ports {
		n.port(own, p.Name, p.Protocol, service{target: own, port: uint16(p.Port), addrs: addrs})
	}
	for _, a := range addrs {
		if a.Is4() {
			n.add(reverseName(a), contribution{ptr: own})
		}
	}
}

// port adds an SRV record: to the name of the port, and to that of the Service.
func (n *naming) port(own, name string, protocol corev1.Protocol, target service) {
	n.add(own, contribution{srv: []service{target}})
	if name == "" {
		return
	}
	if protocol == "" {
		protocol = corev1.ProtocolTCP
	}
	above := "_" + strings.ToLower(string(protocol)) + "." + own
	n.add(above, contribution{})
	n.add("_"+name+"."+above, contribution{srv: []service{target}})
}

// headless gives the Service the addresses of its ready endpoints, and each of
// these a name of its own.
func (n *naming) headless(own string, s *corev1.Service, all []*discoveryv1.EndpointSlice) {
	n.add(own, contribution{})
	for _, slice := range all {
		if slice.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, text := range e.Addresses {
				a, err := netip.ParseAddr(text)
				if err != nil {
					continue
				}
				a = a.Unmap()
				label := strings.NewReplacer(".", "-", ":", "-").Replace(a.String())
				if e.Hostname != nil && *e.Hostname != "" {
					label = *e.Hostname
				}
				name := label + "." + own
				n.add(own, contribution{addrs: []netip.Addr{a}})
				n.add(name, contribution{addrs: []netip.Addr{a}})
				if a.Is4() {
					n.add(reverseName(a), contribution{ptr: name})
				}
				for _, p := range slice.Ports {
					if p.Port == nil {
						continue
					}
					portName, protocol := "", corev1.ProtocolTCP
					if p.Name != nil {
						portName = *p.Name
					}
					if p.Protocol != nil {
						protocol = *p.Protocol
					}
					n.port(own, portName, protocol, service{target: name, port: uint16(*p.Port), addrs: []netip.Addr{a}})
				}
			}
		}
	}
}

// zoneNames are the names that exist whatever Services there are.
func zoneNames(zone string, addrs []netip.Addr) (map[string]contribution, error) {
	n := &naming{out: map[string]contribution{}}
	for _, name := range []string{zone, "svc." + zone, "pod." + zone, "dns." + zone} {
		n.add(name, contribution{})
	}
	n.add("ns.dns."+zone, contribution{addrs: addrs})
	version, err := packName("dns-version." + zone)
	if err != nil {
		return nil, err
	}
	n.out[version] = contribution{txt: specificationVersion}
	if len(n.faults) > 0 {
		return nil, fmt.Errorf("cannot serve the zone %s: %w", zone, n.faults[0])
	}
	return n.out, nil
}

// specificationVersion is the version of the naming rules that are followed.
const specificationVersion = "1.1.0"
