package proxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// What an entry of the svc and np maps says besides the pool. The bits are those
// of the connection's mark, above the pool's number.
const (
	idMask = 1<<23 - 1
	// masqueradeOutside rewrites the source when it is neither a pod nor this node.
	masqueradeOutside = 1 << 23
	// filtered lets only the pool's source ranges in.
	filtered = 1 << 24
	// localOnly leads to the endpoints of this node; pods and the node itself
	// are led to all endpoints instead.
	localOnly = 1 << 25
	// rejected is set while the packet passes, when the pool is empty.
	rejected = 1 << 26
	// masqueraded always rewrites the source.
	masqueraded = 1 << 27
	tagShift    = 28
	tagMask     = 15 << tagShift
)

// maxBackends is the largest number of endpoints that a class can express.
const (
	backendBits = 15
	maxBackends = 1<<backendBits - 1
)

// poolName identifies a group of backends that connections are spread over.
type poolName struct {
	owner string
	proto uint8
	port  uint16
	// local: only endpoints of this node.
	local bool
}

// poolPlan is what one pool shall hold.
type poolPlan struct {
	name poolName
	// backends, sorted and without doubles.
	backends []netip.AddrPort
	// affinity in seconds keeps a client at its backend; 0: none.
	affinity uint32
	// drop: an empty pool is silent instead of refusing, because other nodes
	// have endpoints.
	drop bool
	// ranges limits who may come, for entries with the filtered flag.
	ranges []netip.Prefix
	// all is the pool of all endpoints, for entries with the localOnly flag; its
	// plan comes before this one. The zero name: none.
	all poolName
}

// frontKey is an address that clients connect to. An invalid addr stands for
// every address of this node.
type frontKey struct {
	addr  netip.Addr
	proto uint8
	port  uint16
}

// frontPlan is one address and where it leads.
type frontPlan struct {
	frontKey
	pool  poolName
	flags uint32
}

// plan is everything that one Service, or one pod with host ports, puts into
// the tables.
type plan struct {
	pools  []poolPlan
	fronts []frontPlan
	// addresses that belong to the Service, so that its unused ports refuse.
	addresses []netip.Addr
	// healthPort answers load balancers whether this node has endpoints; 0: none.
	healthPort uint16
	// localReady is the number of ready endpoints on this node.
	localReady int
	// faults are parts that cannot be had, in words.
	faults []string
}

// node is what a plan depends on besides its objects.
type node struct {
	name string
	zone string // "" when it is in none
	// served are Service addresses that a server on this node answers itself.
	served []netip.Addr
	sctp   bool
}

// planService decides what the tables hold for a Service with these
// EndpointSlices. It is pure: the same arguments give the same plan.
func planService(owner string, s *corev1.Service, slices []*discoveryv1.EndpointSlice, n node) plan {
	var p plan
	if s == nil || s.Spec.Type == corev1.ServiceTypeExternalName || s.Labels["service.kubernetes.io/service-proxy-name"] != "" {
		return p
	}
	var clusterIPs []netip.Addr
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{s.Spec.ClusterIP}
	}
	for _, ip := range ips {
		if a := ipv4(ip); a.IsValid() && !contains(n.served, a) {
			clusterIPs = append(clusterIPs, a)
		}
	}
	if ips[0] == "" || ips[0] == corev1.ClusterIPNone {
		return p
	}
	p.addresses = clusterIPs

	externalLocal := s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal &&
		(s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer || len(s.Spec.ExternalIPs) > 0)
	internalLocal := s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer && externalLocal {
		p.healthPort = uint16(s.Spec.HealthCheckNodePort)
		p.localReady = countLocalReady(slices, n.name)
	}

	var affinity uint32
	if s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		affinity = uint32(corev1.DefaultClientIPServiceAffinitySeconds)
		if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			affinity = uint32(min(max(*c.ClientIP.TimeoutSeconds, 1), 86400))
		}
	}
	external, balanced := externalAddresses(s)
	ranges, open := sourceRanges(s)

	for _, port := range s.Spec.Ports {
		proto, ok := protocols[port.Protocol]
		if !ok {
			p.faults = append(p.faults, fmt.Sprintf("port %d: protocol %s is not known", port.Port, port.Protocol))
			continue
		}
		if proto == unix.IPPROTO_SCTP && !n.sctp {
			p.faults = append(p.faults, fmt.Sprintf("port %d: this kernel cannot track SCTP connections", port.Port))
			continue
		}
		if p.has(poolName{owner, proto, uint16(port.Port), false}) || p.has(poolName{owner, proto, uint16(port.Port), true}) {
			continue
		}
		all, local := backends(slices, port.Name, port.Protocol, n)
		allPool := poolPlan{name: poolName{owner, proto, uint16(port.Port), false}, backends: all, affinity: affinity}
		localPool := poolPlan{name: poolName{owner, proto, uint16(port.Port), true}, backends: local, affinity: affinity, drop: len(all) > 0}
		if !open {
			allPool.ranges, localPool.ranges = ranges, ranges
		}
		internal, internalFlags := allPool.name, uint32(masqueradeOutside)
		if internalLocal {
			internal, internalFlags = localPool.name, 0
		}
		outside, outsideFlags := allPool.name, uint32(masqueraded)
		if externalLocal {
			outside, outsideFlags = localPool.name, localOnly
			localPool.all = allPool.name
		}
		for _, a := range clusterIPs {
			p.front(frontKey{a, proto, uint16(port.Port)}, internal, internalFlags)
		}
		for _, a := range external {
			p.front(frontKey{a, proto, uint16(port.Port)}, outside, outsideFlags)
		}
		for _, a := range balanced {
			flags := outsideFlags
			if !open {
				flags |= filtered
			}
			p.front(frontKey{a, proto, uint16(port.Port)}, outside, flags)
		}
		if port.NodePort != 0 && s.Spec.Type != corev1.ServiceTypeClusterIP {
			p.front(frontKey{netip.Addr{}, proto, uint16(port.NodePort)}, outside, outsideFlags)
		}
		localUsed := p.uses(localPool.name)
		if p.uses(allPool.name) || localUsed && localPool.all == allPool.name {
			p.pools = append(p.pools, allPool)
		}
		if localUsed {
			p.pools = append(p.pools, localPool)
		}
		if len(all) == maxBackends {
			p.faults = append(p.faults, fmt.Sprintf("port %d: only the first %d endpoints are used", port.Port, maxBackends))
		}
	}
	return p
}

// front adds an entry unless the plan has one for the address already: an
// external address may be listed twice.
func (p *plan) front(k frontKey, pool poolName, flags uint32) {
	for _, f := range p.fronts {
		if f.frontKey == k {
			return
		}
	}
	p.fronts = append(p.fronts, frontPlan{frontKey: k, pool: pool, flags: flags})
}

func (p *plan) has(name poolName) bool {
	return slices.ContainsFunc(p.pools, func(q poolPlan) bool { return q.name == name })
}

func (p *plan) uses(name poolName) bool {
	for _, f := range p.fronts {
		if f.pool == name {
			return true
		}
	}
	return false
}

var protocols = map[corev1.Protocol]uint8{
	"":                  unix.IPPROTO_TCP,
	corev1.ProtocolTCP:  unix.IPPROTO_TCP,
	corev1.ProtocolUDP:  unix.IPPROTO_UDP,
	corev1.ProtocolSCTP: unix.IPPROTO_SCTP,
}

// externalAddresses returns the addresses from outside that lead to the
// Service: the plain ones, and those of its load balancer.
func externalAddresses(s *corev1.Service) (plain, balanced []netip.Addr) {
	for _, ip := range s.Spec.ExternalIPs {
		if a := ipv4(ip); a.IsValid() {
			plain = append(plain, a)
		}
	}
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return plain, nil
	}
	for _, in := range s.Status.LoadBalancer.Ingress {
		// A balancer that ends connections itself must be passed through, not around.
		if in.IPMode != nil && *in.IPMode == corev1.LoadBalancerIPModeProxy {
			continue
		}
		if a := ipv4(in.IP); a.IsValid() {
			balanced = append(balanced, a)
		}
	}
	return plain, balanced
}

// sourceRanges returns who may use the load balancer's addresses; open when
// everybody may.
func sourceRanges(s *corev1.Service) (ranges []netip.Prefix, open bool) {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer || len(s.Spec.LoadBalancerSourceRanges) == 0 {
		return nil, true
	}
	for _, text := range s.Spec.LoadBalancerSourceRanges {
		r, err := netip.ParsePrefix(text)
		if err != nil || !r.Addr().Is4() {
			continue
		}
		if r.Bits() == 0 {
			return nil, true
		}
		ranges = append(ranges, r.Masked())
	}
	return mergePrefixes(ranges), false
}

// mergePrefixes sorts ranges and leaves out those that others contain: the
// kernel refuses overlapping ranges.
func mergePrefixes(ranges []netip.Prefix) []netip.Prefix {
	slices.SortFunc(ranges, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out []netip.Prefix
	for _, r := range ranges {
		if len(out) == 0 || !out[len(out)-1].Overlaps(r) {
			out = append(out, r)
		}
	}
	return out
}

// backends returns where a port's connections go, on all nodes and on this one:
// the ready endpoints, of all nodes those that are meant for clients here, or when
// there is none those that still serve while they terminate.
func backends(slices []*discoveryv1.EndpointSlice, portName string, proto corev1.Protocol, n node) (all, local []netip.AddrPort) {
	if proto == "" {
		proto = corev1.ProtocolTCP
	}
	var ready, readyHere, leaving, leavingHere []netip.AddrPort
	near := nearness{node: true, zone: n.zone != ""}
	for _, s := range slices {
		if s.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		port := uint16(0)
		for _, sp := range s.Ports {
			name, protocol := "", corev1.ProtocolTCP
			if sp.Name != nil {
				name = *sp.Name
			}
			if sp.Protocol != nil && *sp.Protocol != "" {
				protocol = *sp.Protocol
			}
			if name == portName && protocol == proto && sp.Port != nil {
				port = uint16(*sp.Port)
				break
			}
		}
		if port == 0 {
			continue
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if len(e.Addresses) == 0 {
				continue
			}
			a := ipv4(e.Addresses[0])
			if !a.IsValid() {
				continue
			}
			backend := netip.AddrPortFrom(a, port)
			here := e.NodeName != nil && *e.NodeName == n.name
			switch {
			case isReady(e):
				ready = append(ready, backend)
				near.add(e, n, backend)
				if here {
					readyHere = append(readyHere, backend)
				}
			case isServing(e) && isTerminating(e):
				leaving = append(leaving, backend)
				if here {
					leavingHere = append(leavingHere, backend)
				}
			}
		}
	}
	if len(ready) == 0 {
		ready = leaving
	} else {
		ready = near.of(ready)
	}
	if len(readyHere) == 0 {
		readyHere = leavingHere
	}
	return distinct(ready), distinct(readyHere)
}

// nearness tells which endpoints are meant for clients on a node, by the hints of
// all: those for the node, else those for its zone. A kind of hint counts when
// every endpoint has one, and some is for here.
type nearness struct {
	node, zone     bool // every endpoint so far has a hint of the kind
	onNode, inZone []netip.AddrPort
}

func (x *nearness) add(e *discoveryv1.Endpoint, n node, b netip.AddrPort) {
	if !x.node && !x.zone {
		return
	}
	h := e.Hints
	if x.node = x.node && h != nil && len(h.ForNodes) > 0; x.node && slices.ContainsFunc(h.ForNodes, func(f discoveryv1.ForNode) bool { return f.Name == n.name }) {
		x.onNode = append(x.onNode, b)
	}
	if x.zone = x.zone && h != nil && len(h.ForZones) > 0; x.zone && slices.ContainsFunc(h.ForZones, func(f discoveryv1.ForZone) bool { return f.Name == n.zone }) {
		x.inZone = append(x.inZone, b)
	}
}

func (x *nearness) of(all []netip.AddrPort) []netip.AddrPort {
	switch {
	case x.node && len(x.onNode) > 0:
		return x.onNode
	case x.zone && len(x.inZone) > 0:
		return x.inZone
	}
	return all
}

func isReady(e *discoveryv1.Endpoint) bool { return e.Conditions.Ready == nil || *e.Conditions.Ready }

func isServing(e *discoveryv1.Endpoint) bool {
	if e.Conditions.Serving == nil {
		return isReady(e)
	}
	return *e.Conditions.Serving
}

func isTerminating(e *discoveryv1.Endpoint) bool {
	return e.Conditions.Terminating != nil && *e.Conditions.Terminating
}

// countLocalReady counts the distinct ready endpoints on the node.
func countLocalReady(slices []*discoveryv1.EndpointSlice, nodeName string) int {
	seen := map[string]bool{}
	for _, s := range slices {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if len(e.Addresses) > 0 && e.NodeName != nil && *e.NodeName == nodeName && isReady(e) {
				seen[e.Addresses[0]] = true
			}
		}
	}
	return len(seen)
}

func distinct(b []netip.AddrPort) []netip.AddrPort {
	slices.SortFunc(b, netip.AddrPort.Compare)
	b = slices.Compact(b)
	return b[:min(len(b), maxBackends)]
}

func ipv4(text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Unmap().Is4() {
		return netip.Addr{}
	}
	return a.Unmap()
}

func contains(list []netip.Addr, a netip.Addr) bool { return slices.Contains(list, a) }

// HostPort is a port of the node that leads to a container.
type HostPort struct {
	// HostIP limits it to one address of the node; invalid or unspecified: all.
	HostIP   netip.Addr
	HostPort uint16
	Protocol corev1.Protocol
	// Backend is the pod's address and the container's port.
	Backend netip.AddrPort
}

// planHostPorts decides what the tables hold for a pod's host ports.
func planHostPorts(owner string, ports []HostPort, n node) plan {
	var p plan
	for _, port := range ports {
		proto, ok := protocols[port.Protocol]
		if !ok || proto == unix.IPPROTO_SCTP && !n.sctp {
			p.faults = append(p.faults, fmt.Sprintf("host port %d: protocol %s is not supported", port.HostPort, port.Protocol))
			continue
		}
		if !port.Backend.Addr().Is4() || port.HostIP.IsValid() && !port.HostIP.Is4() {
			continue
		}
		k := frontKey{port.HostIP, proto, port.HostPort}
		if port.HostIP.IsUnspecified() {
			k.addr = netip.Addr{}
		}
		name := poolName{owner: owner + "/" + k.addr.String(), proto: proto, port: port.HostPort}
		if p.has(name) {
			continue
		}
		p.pools = append(p.pools, poolPlan{name: name, backends: []netip.AddrPort{port.Backend}})
		p.front(k, name, 0)
	}
	return p
}
