package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// describe renders a plan in lines, for comparison.
func describe(p plan) []string {
	var out []string
	name := func(n poolName) string {
		text := fmt.Sprintf("%s:%d", protocolName(n.proto), n.port)
		if n.local {
			text += " local"
		}
		return text
	}
	for _, f := range p.fronts {
		at := "node"
		if f.addr.IsValid() {
			at = f.addr.String()
		}
		var flags []string
		for _, b := range []struct {
			bit  uint32
			name string
		}{{masqueradeOutside, "outside"}, {filtered, "filtered"}, {localOnly, "local"}, {masqueraded, "masquerade"}} {
			if f.flags&b.bit != 0 {
				flags = append(flags, b.name)
			}
		}
		out = append(out, fmt.Sprintf("%s %s:%d -> %s %v", protocolName(f.proto), at, f.port, name(f.pool), flags))
	}
	for _, q := range p.pools {
		line := fmt.Sprintf("pool %s %v", name(q.name), q.backends)
		if q.affinity > 0 {
			line += fmt.Sprintf(" affinity %d", q.affinity)
		}
		if q.drop {
			line += " drop"
		}
		if len(q.ranges) > 0 {
			line += fmt.Sprint(" ranges ", q.ranges)
		}
		out = append(out, line)
	}
	if p.healthPort != 0 {
		out = append(out, fmt.Sprintf("health %d ready %d", p.healthPort, p.localReady))
	}
	for _, f := range p.faults {
		out = append(out, "fault "+f)
	}
	return out
}

func TestPlanService(t *testing.T) {
	tcpOnly := func(s *corev1.Service) { s.Spec.Ports = s.Spec.Ports[:1] }
	const a, b = "10.244.1.1:8080", "10.244.1.2:8080"
	for _, c := range []struct {
		name    string
		service *corev1.Service
		slices  []*discoveryv1.EndpointSlice
		want    []string
	}{
		{
			"cluster address", newService("web", "10.96.0.1", tcpOnly),
			[]*discoveryv1.EndpointSlice{endpoints("web", "10.244.1.2", "10.244.1.1@n2", "10.244.1.2")},
			[]string{"TCP 10.96.0.1:80 -> TCP:80 [outside]", "pool TCP:80 [" + a + " " + b + "]"},
		},
		{
			"endpoints in several slices, other families left out", newService("web", "10.96.0.1", tcpOnly),
			[]*discoveryv1.EndpointSlice{endpoints("web", "10.244.1.2"), endpoints("web", "10.244.1.1", "10.244.1.2"), func() *discoveryv1.EndpointSlice {
				s := endpoints("web", "fd00::1")
				s.AddressType = discoveryv1.AddressTypeIPv6
				return s
			}()},
			[]string{"TCP 10.96.0.1:80 -> TCP:80 [outside]", "pool TCP:80 [" + a + " " + b + "]"},
		},
		{"headless", newService("web", "None"), nil, nil},
		{"without an address yet", newService("web", ""), nil, nil},
		{"served on the node", newService("dns", "10.96.0.10"), nil, nil},
		{"an alias", newService("web", "", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), nil, nil},
		{"another proxy's", newService("web", "10.96.0.1", func(s *corev1.Service) {
			s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "mesh"}
		}), nil, nil},
		{
			"affinity without a time lasts three hours", newService("web", "10.96.0.1", tcpOnly, func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }), nil,
			[]string{"TCP 10.96.0.1:80 -> TCP:80 [outside]", "pool TCP:80 [] affinity 10800"},
		},
		{
			"policy Local", newService("web", "10.96.0.1", tcpOnly, nodePort(30001), balancer("198.51.100.1", 32000, "10.0.0.0/8", "10.1.0.0/16"), externalLocal),
			[]*discoveryv1.EndpointSlice{endpoints("web", "10.244.1.1@n2")},
			[]string{
				"TCP 10.96.0.1:80 -> TCP:80 [outside]", "TCP 198.51.100.1:80 -> TCP:80 local [filtered local]", "TCP node:30001 -> TCP:80 local [local]",
				"pool TCP:80 [" + a + "] ranges [10.0.0.0/8]", "pool TCP:80 local [] drop ranges [10.0.0.0/8]", "health 32000 ready 0",
			},
		},
		{
			"a balancer that is a proxy is not gone around", newService("web", "10.96.0.1", tcpOnly, balancer("198.51.100.1", 0), func(s *corev1.Service) {
				s.Status.LoadBalancer.Ingress[0].IPMode = ptr(corev1.LoadBalancerIPModeProxy)
			}), nil,
			[]string{"TCP 10.96.0.1:80 -> TCP:80 [outside]", "pool TCP:80 []"},
		},
		{
			"internal policy Local", newService("web", "10.96.0.1", tcpOnly, internalLocal),
			[]*discoveryv1.EndpointSlice{endpoints("web", "10.244.1.1@n2", "10.244.1.2")},
			[]string{"TCP 10.96.0.1:80 -> TCP:80 local []", "pool TCP:80 local [" + b + "] drop"},
		},
		{
			"those that terminate serve only when none else does", newService("web", "10.96.0.1", tcpOnly, nodePort(30001), externalLocal),
			[]*discoveryv1.EndpointSlice{endpoints("web", "10.244.1.1!terminating", "10.244.1.2@n2", "10.244.1.3!unready")},
			[]string{
				"TCP 10.96.0.1:80 -> TCP:80 [outside]", "TCP node:30001 -> TCP:80 local [local]",
				"pool TCP:80 [" + b + "]", "pool TCP:80 local [" + a + "] drop",
			},
		},
		{
			"SCTP on a kernel without", newService("web", "10.96.0.1", func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolSCTP; tcpOnly(s) }), nil,
			[]string{"fault port 80: this kernel cannot track SCTP connections"},
		},
		{
			"IPv6 addresses of a Service wait for the second table", newService("web", "10.96.0.1", tcpOnly, func(s *corev1.Service) {
				s.Spec.ClusterIPs = []string{"10.96.0.1", "fd00::1"}
				s.Spec.ExternalIPs = []string{"fd00::2", "198.51.100.1", "198.51.100.1"}
			}), nil,
			[]string{"TCP 10.96.0.1:80 -> TCP:80 [outside]", "TCP 198.51.100.1:80 -> TCP:80 [masquerade]", "pool TCP:80 []"},
		},
	} {
		got := describe(planService("default/web", c.service, c.slices, node{name: "n1", served: []netip.Addr{addr("10.96.0.10")}}))
		if !slices.Equal(got, c.want) {
			t.Errorf("%s\n got %s\nwant %s", c.name, strings.Join(got, "\n     "), strings.Join(c.want, "\n     "))
		}
	}
}

// Clients get the endpoints of their node, else of their zone, when all endpoints
// say whom they are for and some are for here.
func TestPlanFollowsHints(t *testing.T) {
	s := newService("web", "10.96.0.1", func(s *corev1.Service) { s.Spec.Ports = s.Spec.Ports[:1] })
	nodes := func(names ...string) (list []discoveryv1.ForNode) {
		for _, n := range names {
			list = append(list, discoveryv1.ForNode{Name: n})
		}
		return list
	}
	zones := func(names ...string) (list []discoveryv1.ForZone) {
		for _, n := range names {
			list = append(list, discoveryv1.ForZone{Name: n})
		}
		return list
	}
	type hint = *discoveryv1.EndpointHints
	both := func(n, z string) hint { return &discoveryv1.EndpointHints{ForNodes: nodes(n), ForZones: zones(z)} }
	for name, c := range map[string]struct {
		zone  string
		hints [3]hint
		want  string
	}{
		"node":                     {"z1", [3]hint{both("n1", "z1"), both("n2", "z1"), both("n3", "z2")}, "10.244.1.1:80"},
		"zone, none on the node":   {"z1", [3]hint{both("n4", "z1"), both("n2", "z1"), both("n3", "z2")}, "10.244.1.1:80 10.244.1.2:80"},
		"zone of the node unknown": {"", [3]hint{both("n4", "z1"), both("n2", "z1"), both("n3", "z2")}, "10.244.1.1:80 10.244.1.2:80 10.244.1.3:80"},
		"neither here":             {"z9", [3]hint{both("n4", "z1"), both("n2", "z1"), both("n3", "z2")}, "10.244.1.1:80 10.244.1.2:80 10.244.1.3:80"},
		"one without any":          {"z1", [3]hint{both("n1", "z1"), nil, both("n3", "z2")}, "10.244.1.1:80 10.244.1.2:80 10.244.1.3:80"},
		"one without a node":       {"z1", [3]hint{both("n1", "z1"), {ForZones: zones("z1")}, both("n3", "z2")}, "10.244.1.1:80 10.244.1.2:80"},
		"several zones":            {"z2", [3]hint{{ForZones: zones("z1", "z2")}, {ForZones: zones("z1")}, {ForZones: zones("z3")}}, "10.244.1.1:80"},
	} {
		slice := endpoints("web", "10.244.1.1", "10.244.1.2", "10.244.1.3", "10.244.1.4!unready")
		slice.Ports[0].Port = ptr(int32(80))
		for i, h := range c.hints {
			slice.Endpoints[i].Hints = h
		}
		got := describe(planService("default/web", s, []*discoveryv1.EndpointSlice{slice}, node{name: "n1", zone: c.zone}))
		if want := "pool TCP:80 [" + c.want + "]"; got[len(got)-1] != want {
			t.Errorf("%s: %s, want %s", name, got[len(got)-1], want)
		}
	}
}

func TestPlanNamedPorts(t *testing.T) {
	s := newService("web", "10.96.0.1")
	slice := endpoints("web", "10.244.1.1")
	slice.Ports[0].Port = ptr(int32(9000))
	slice.Ports[1].Port = nil
	got := describe(planService("default/web", s, []*discoveryv1.EndpointSlice{slice}, node{name: "n1"}))
	want := []string{"TCP 10.96.0.1:80 -> TCP:80 [outside]", "UDP 10.96.0.1:80 -> UDP:80 [outside]", "pool TCP:80 [10.244.1.1:9000]", "pool UDP:80 []"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}
