package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/lib/netlink"
	"sagong/lib/netlink/nettest"
	"sagong/network/pod"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

// cluster is a node with a pod network and a proxy, and a namespace that stands
// for the world outside.
type cluster struct {
	*nettest.Namespace
	world *nettest.Namespace
	pods  *pod.Network
	proxy *Proxy
	cfg   Config
}

func newCluster(t testing.TB) *cluster {
	c := &cluster{Namespace: nettest.New(t, "host"), world: nettest.New(t, "world")}
	nettest.Link(t, c.Namespace, "up0", prefix("192.0.2.1/24"), c.world, "w0", prefix("192.0.2.100/24"))
	c.Route(t, prefix("0.0.0.0/0"), addr("192.0.2.100"))
	c.cfg = Config{
		Cluster: "test", NodeName: "n1", NodeIP: addr("192.0.2.1"), StateDir: t.TempDir() + "/network",
		PodCIDRs: []netip.Prefix{prefix("10.244.1.0/24")}, ClusterCIDRs: []netip.Prefix{prefix("10.244.0.0/16")},
		ServiceCIDRs: []netip.Prefix{prefix("10.96.0.0/16")}, Served: []netip.Addr{addr("10.96.0.10")},
	}
	c.Do(t, func() (err error) {
		c.pods, err = pod.Open(context.Background(), pod.Config{
			Cluster: c.cfg.Cluster, NodeIP: c.cfg.NodeIP, PodCIDRs: c.cfg.PodCIDRs,
			ClusterCIDRs: c.cfg.ClusterCIDRs, ServiceCIDRs: c.cfg.ServiceCIDRs, StateDir: c.cfg.StateDir,
		})
		return err
	})
	t.Cleanup(func() { c.pods.Close() })
	c.open(t)
	c.proxy.Start()
	return c
}

func (c *cluster) open(t testing.TB) {
	t.Helper()
	c.Do(t, func() (err error) {
		c.proxy, err = Open(context.Background(), c.cfg)
		return err
	})
	p := c.proxy
	t.Cleanup(func() { p.Close() })
}

// pod makes a pod that serves TCP and UDP at port 8080.
func (c *cluster) pod(t testing.TB, name string) (*nettest.Namespace, string) {
	t.Helper()
	ns := nettest.New(t, name)
	a, err := c.pods.Attach(t.Context(), name, ns.Path)
	if err != nil {
		t.Fatal(err)
	}
	ns.Serve(t, a.IPs[0].String()+":8080", name)
	ns.ServeUDP(t, a.IPs[0].String()+":8080", name)
	return ns, a.IPs[0].String()
}

func (c *cluster) flush(t testing.TB) {
	t.Helper()
	c.Do(t, func() error { return c.proxy.Flush(context.Background()) })
}

type option func(*corev1.Service)

func newService(name, ip string, opts ...option) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip},
			Ports: []corev1.ServicePort{
				{Name: "t", Port: 80, Protocol: corev1.ProtocolTCP},
				{Name: "u", Port: 80, Protocol: corev1.ProtocolUDP},
			},
		},
	}
	for _, o := range opts {
		o(s)
	}
	return s
}

func nodePort(p int32) option {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeNodePort
		for i := range s.Spec.Ports {
			s.Spec.Ports[i].NodePort = p
		}
	}
}

func affinity(seconds int32) option {
	return func(s *corev1.Service) {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	}
}

func externalLocal(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func internalLocal(s *corev1.Service) {
	local := corev1.ServiceInternalTrafficPolicyLocal
	s.Spec.InternalTrafficPolicy = &local
}

func balancer(ip string, healthPort int32, ranges ...string) option {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		s.Spec.HealthCheckNodePort = healthPort
		s.Spec.LoadBalancerSourceRanges = ranges
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: ip}}
	}
}

func ptr[T any](v T) *T { return &v }

// endpoints makes a slice at port 8080; an address may be followed by "@node"
// and "!terminating" or "!unready".
func endpoints(service string, addrs ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: service + "-1",
			Labels: map[string]string{discoveryv1.LabelServiceName: service},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{
			{Name: ptr("t"), Port: ptr(int32(8080)), Protocol: ptr(corev1.ProtocolTCP)},
			{Name: ptr("u"), Port: ptr(int32(8080)), Protocol: ptr(corev1.ProtocolUDP)},
		},
	}
	for _, text := range addrs {
		rest, state, _ := strings.Cut(text, "!")
		ip, node, ok := strings.Cut(rest, "@")
		if !ok {
			node = "n1"
		}
		e := discoveryv1.Endpoint{Addresses: []string{ip}, NodeName: &node}
		switch state {
		case "terminating":
			e.Conditions = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(true), Terminating: ptr(true)}
		case "unready":
			e.Conditions = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(false), Terminating: ptr(false)}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// names asks repeatedly and returns who answered, sorted, and the sources seen.
func names(t testing.TB, from *nettest.Namespace, network, to string, times int) (servers, sources []string) {
	t.Helper()
	for range times {
		server, source, _ := strings.Cut(from.MustAsk(t, network, to), " ")
		if !slices.Contains(servers, server) {
			servers = append(servers, server)
		}
		if !slices.Contains(sources, source) {
			sources = append(sources, source)
		}
	}
	slices.Sort(servers)
	slices.Sort(sources)
	return servers, sources
}

func TestServiceFromEverywhere(t *testing.T) {
	c := newCluster(t)
	a, ipA := c.pod(t, "a")
	b, ipB := c.pod(t, "b")
	client, ipC := c.pod(t, "client")
	c.world.Route(t, prefix("10.96.0.0/16"), addr("192.0.2.1"))
	c.world.Route(t, prefix("198.51.100.0/24"), addr("192.0.2.1"))
	c.proxy.SetService(newService("web", "10.96.0.100", nodePort(30080), func(s *corev1.Service) {
		s.Spec.ExternalIPs = []string{"198.51.100.7"}
	}))
	c.proxy.SetEndpointSlice(endpoints("web", ipA, ipB))
	c.flush(t)
	for _, proto := range []string{"tcp", "udp"} {
		for _, q := range []struct {
			from    *nettest.Namespace
			to      string
			sources []string
			what    string
		}{
			{client, "10.96.0.100:80", []string{ipC}, "a pod to the ClusterIP keeps its address"},
			{c.Namespace, "10.96.0.100:80", []string{"192.0.2.1"}, "the node to the ClusterIP"},
			{c.world, "10.96.0.100:80", []string{"192.0.2.1"}, "the world to the ClusterIP is masqueraded"},
			{c.Namespace, "127.0.0.1:30080", []string{"192.0.2.1"}, "NodePort on loopback"},
			{c.Namespace, "192.0.2.1:30080", []string{"192.0.2.1"}, "NodePort on the node's address from the node"},
			{c.world, "192.0.2.1:30080", []string{"192.0.2.1"}, "NodePort from the world"},
			{client, "192.0.2.1:30080", []string{"192.0.2.1"}, "NodePort from a pod"},
			{c.world, "198.51.100.7:80", []string{"192.0.2.1"}, "external address from the world"},
			{client, "198.51.100.7:80", []string{"192.0.2.1"}, "external address from a pod"},
			{a, "10.96.0.100:80", nil, "an endpoint to its own Service, hairpin"},
		} {
			servers, sources := names(t, q.from, proto, q.to, 24)
			if !slices.Equal(servers, []string{"a", "b"}) {
				t.Errorf("%s %s: answers from %v, want both pods", proto, q.what, servers)
			}
			if q.sources != nil && !slices.Equal(sources, q.sources) {
				t.Errorf("%s %s: seen as %v, want %v", proto, q.what, sources, q.sources)
			}
		}
	}
	_ = b
	var out bytes.Buffer
	c.Do(t, func() error { return Dump(&out, "test") })
	for _, want := range []string{"10.96.0.100", "(node)", "30080", "198.51.100.7", "masquerade", ipA + ":8080"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the dump lacks %q:\n%s", want, out.String())
		}
	}
}

func TestServiceWithoutEndpointsRefuses(t *testing.T) {
	c := newCluster(t)
	client, _ := c.pod(t, "client")
	_, ipA := c.pod(t, "a")
	c.proxy.SetService(newService("web", "10.96.0.100", nodePort(30080)))
	c.proxy.SetEndpointSlice(endpoints("web", ipA+"!unready"))
	c.flush(t)
	refused := func(from *nettest.Namespace, network, to string) {
		t.Helper()
		start := time.Now()
		got, err := from.Ask(network, to)
		if took := time.Since(start); err != nil && took > 500*time.Millisecond {
			start = time.Now() // the machine may have been busy
			got, err = from.Ask(network, to)
		}
		if !nettest.Refused(err) || time.Since(start) > 500*time.Millisecond {
			t.Errorf("%s from %s to %s: %q, %v after %v; want a refusal at once", network, from.Name, to, got, err, time.Since(start))
		}
	}
	for _, network := range []string{"tcp", "udp"} {
		refused(client, network, "10.96.0.100:80")
		refused(client, network, "10.96.0.100:81")
		refused(c.Namespace, network, "10.96.0.100:80")
		refused(c.world, network, "192.0.2.1:30080")
		refused(client, network, "192.0.2.1:30080")
		refused(c.Namespace, network, "127.0.0.1:30080")
	}
	if conn, err := client.Dial("tcp", "10.96.0.200:80", 300*time.Millisecond); err == nil || nettest.Refused(err) {
		t.Errorf("an address that no Service has must be silent, not %v, %v", conn, err)
	}
	// An endpoint that still serves while it terminates is better than none.
	c.proxy.SetEndpointSlice(endpoints("web", ipA+"!terminating"))
	c.flush(t)
	if got := client.MustAsk(t, "tcp", "10.96.0.100:80"); !strings.HasPrefix(got, "a ") {
		t.Error(got)
	}
	_, ipB := c.pod(t, "b")
	c.proxy.SetEndpointSlice(endpoints("web", ipA+"!terminating", ipB))
	c.flush(t)
	if servers, _ := names(t, client, "tcp", "10.96.0.100:80", 16); !slices.Equal(servers, []string{"b"}) {
		t.Errorf("answers from %v, want only the ready endpoint", servers)
	}
	c.proxy.DeleteService("default", "web")
	c.flush(t)
	if _, err := client.Dial("tcp", "10.96.0.100:80", 300*time.Millisecond); err == nil {
		t.Error("a deleted Service still answers")
	}
}

func TestSessionAffinity(t *testing.T) {
	c := newCluster(t)
	client, _ := c.pod(t, "client")
	var ips []string
	for _, name := range []string{"a", "b", "c", "d"} {
		_, ip := c.pod(t, name)
		ips = append(ips, ip)
	}
	c.proxy.SetService(newService("web", "10.96.0.100", nodePort(30080), affinity(60)))
	c.proxy.SetEndpointSlice(endpoints("web", ips...))
	c.flush(t)
	first, _ := names(t, client, "tcp", "10.96.0.100:80", 20)
	if len(first) != 1 {
		t.Fatalf("answers from %v, want one", first)
	}
	// Other endpoints come and go: the client stays.
	chosen := strings.Index("abcd", first[0])
	c.proxy.SetEndpointSlice(endpoints("web", ips[chosen], ips[(chosen+1)%4]))
	c.flush(t)
	if got, _ := names(t, client, "tcp", "10.96.0.100:80", 20); !slices.Equal(got, first) {
		t.Errorf("answers from %v, want %v", got, first)
	}
	// Its endpoint goes: it moves, and stays there.
	others := slices.Delete(slices.Clone(ips), chosen, chosen+1)
	c.proxy.SetEndpointSlice(endpoints("web", others...))
	c.flush(t)
	second, _ := names(t, client, "tcp", "10.96.0.100:80", 20)
	if len(second) != 1 || slices.Equal(second, first) {
		t.Errorf("answers from %v after %v left", second, first)
	}
	// Restarting the proxy does not forget, with the same chains or others.
	for _, served := range []string{"10.96.0.10", "10.96.0.11"} {
		c.proxy.Close()
		c.cfg.Served = []netip.Addr{addr(served)}
		c.open(t)
		c.proxy.Start()
		c.proxy.SetService(newService("before", "10.96.0.99", affinity(60)))
		c.proxy.SetEndpointSlice(endpoints("before", others...))
		c.proxy.SetService(newService("web", "10.96.0.100", nodePort(30080), affinity(60)))
		c.proxy.SetEndpointSlice(endpoints("web", others...))
		c.flush(t)
		if got, _ := names(t, client, "tcp", "10.96.0.100:80", 20); !slices.Equal(got, second) {
			t.Errorf("after a restart answers from %v, want %v", got, second)
		}
	}
	c.proxy.SetService(newService("web", "10.96.0.100", nodePort(30080)))
	c.flush(t)
	if got, _ := names(t, client, "tcp", "10.96.0.100:80", 60); len(got) != 3 {
		t.Errorf("without affinity answers from %v, want all three", got)
	}
	c.proxy.SetService(newService("web", "10.96.0.100", nodePort(30080), affinity(30)))
	c.flush(t)
	if got, _ := names(t, c.world, "tcp", "192.0.2.1:30080", 20); len(got) != 1 {
		t.Errorf("at the NodePort answers from %v, want one", got)
	}
}

func TestTrafficPolicyLocal(t *testing.T) {
	c := newCluster(t)
	client, _ := c.pod(t, "client")
	_, ipA := c.pod(t, "a")
	_, ipB := c.pod(t, "b")
	c.world.Route(t, prefix("198.51.100.0/24"), addr("192.0.2.1"))
	// b counts as an endpoint of another node.
	c.proxy.SetService(newService("web", "10.96.0.100", nodePort(30080), balancer("198.51.100.7", 30999), externalLocal))
	c.proxy.SetEndpointSlice(endpoints("web", ipA, ipB+"@n2"))
	c.flush(t)
	for _, to := range []string{"192.0.2.1:30080", "198.51.100.7:80"} {
		servers, sources := names(t, c.world, "tcp", to, 20)
		if !slices.Equal(servers, []string{"a"}) || !slices.Equal(sources, []string{"192.0.2.100"}) {
			t.Errorf("the world at %s: %v from %v, want the local endpoint and its own address", to, servers, sources)
		}
		if servers, _ := names(t, client, "tcp", to, 30); !slices.Equal(servers, []string{"a", "b"}) {
			t.Errorf("a pod at %s: %v, want all endpoints", to, servers)
		}
		if servers, _ := names(t, c.Namespace, "tcp", to, 30); !slices.Equal(servers, []string{"a", "b"}) {
			t.Errorf("the node at %s: %v, want all endpoints", to, servers)
		}
	}
	if servers, _ := names(t, client, "tcp", "10.96.0.100:80", 30); !slices.Equal(servers, []string{"a", "b"}) {
		t.Errorf("a pod at the ClusterIP: %v, want all endpoints", servers)
	}
	health := func() string {
		conn, err := c.world.Dial("tcp", "192.0.2.1:30999", time.Second)
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET /healthz HTTP/1.0\r\n\r\n")
		line, _ := bufio.NewReader(conn).ReadString('\n')
		return strings.TrimSpace(line)
	}
	if got := health(); got != "HTTP/1.0 200 OK" {
		t.Errorf("health check: %s", got)
	}
	c.proxy.SetEndpointSlice(endpoints("web", ipB+"@n2"))
	c.flush(t)
	if got := health(); got != "HTTP/1.0 503 Service Unavailable" {
		t.Errorf("health check without local endpoints: %s", got)
	}
	if _, err := c.world.Dial("tcp", "192.0.2.1:30080", 300*time.Millisecond); err == nil || nettest.Refused(err) {
		t.Errorf("without local endpoints the NodePort must be silent: %v", err)
	}
	if got := client.MustAsk(t, "tcp", "192.0.2.1:30080"); !strings.HasPrefix(got, "b ") {
		t.Error(got)
	}
	c.proxy.SetService(newService("web", "10.96.0.100", internalLocal))
	c.proxy.SetEndpointSlice(endpoints("web", ipA, ipB+"@n2"))
	c.flush(t)
	if servers, _ := names(t, client, "tcp", "10.96.0.100:80", 20); !slices.Equal(servers, []string{"a"}) {
		t.Errorf("internalTrafficPolicy Local: %v", servers)
	}
	if got := health(); strings.HasPrefix(got, "HTTP") {
		t.Errorf("the health port is still open: %s", got)
	}
}

func TestLoadBalancerSourceRanges(t *testing.T) {
	c := newCluster(t)
	_, ipA := c.pod(t, "a")
	c.world.Route(t, prefix("198.51.100.0/24"), addr("192.0.2.1"))
	c.proxy.SetEndpointSlice(endpoints("web", ipA))
	for _, q := range []struct {
		ranges []string
		want   bool
	}{
		{nil, true},
		{[]string{"203.0.113.0/24"}, false},
		{[]string{"203.0.113.0/24", "192.0.2.0/24", "192.0.2.64/26"}, true},
		{[]string{"192.0.2.101/32"}, false},
		{[]string{"0.0.0.0/0", "203.0.113.0/24"}, true},
	} {
		c.proxy.SetService(newService("web", "10.96.0.100", nodePort(30080), balancer("198.51.100.7", 0, q.ranges...)))
		c.flush(t)
		conn, err := c.world.Dial("tcp", "198.51.100.7:80", 300*time.Millisecond)
		if (err == nil) != q.want {
			t.Errorf("ranges %v: %v, want reached=%v", q.ranges, err, q.want)
		}
		if err == nil {
			conn.Close()
		}
		c.world.MustAsk(t, "tcp", "192.0.2.1:30080")
	}
}

func TestHostPorts(t *testing.T) {
	c := newCluster(t)
	client, _ := c.pod(t, "client")
	_, ipA := c.pod(t, "a")
	_, ipB := c.pod(t, "b")
	all, one := netip.Addr{}, addr("127.0.0.1")
	backend := func(ip string) netip.AddrPort { return netip.AddrPortFrom(addr(ip), 8080) }
	c.proxy.SetHostPorts("a", []HostPort{{all, 8000, corev1.ProtocolTCP, backend(ipA)}, {addr("0.0.0.0"), 8000, corev1.ProtocolUDP, backend(ipA)}})
	c.proxy.SetHostPorts("b", []HostPort{{one, 8000, corev1.ProtocolTCP, backend(ipB)}})
	c.flush(t)
	for _, q := range []struct {
		from          *nettest.Namespace
		network, to   string
		want, because string
	}{
		{c.world, "tcp", "192.0.2.1:8000", "a 192.0.2.100", "the client's address is kept"},
		{c.world, "udp", "192.0.2.1:8000", "a 192.0.2.100", "for datagrams too"},
		{client, "tcp", "192.0.2.1:8000", "a", "from a pod"},
		{c.Namespace, "tcp", "127.0.0.1:8000", "b 192.0.2.1", "the address that was asked for goes first"},
	} {
		if got := q.from.MustAsk(t, q.network, q.to); !strings.HasPrefix(got, q.want) {
			t.Errorf("%s: %q, want %q", q.because, got, q.want)
		}
	}
	c.proxy.SetHostPorts("a", nil)
	c.flush(t)
	if _, err := c.world.Ask("tcp", "192.0.2.1:8000"); !nettest.Refused(err) {
		t.Errorf("a removed host port: %v", err)
	}
}

func TestPurgeLeavesNothing(t *testing.T) {
	settings := []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet"}
	c := newCluster(t)
	c.proxy.SetService(newService("web", "10.96.0.100", nodePort(30080), balancer("198.51.100.7", 30998), externalLocal))
	c.flush(t)
	c.proxy.Close()
	c.pods.Close()
	c.Do(t, func() error { return Purge(context.Background(), c.cfg) })
	c.Do(t, func() error {
		return pod.Purge(context.Background(), pod.Config{Cluster: "test", StateDir: c.cfg.StateDir})
	})
	state := c.State(t, settings...)
	for _, left := range []string{"table", "10.96", "10.244"} {
		if strings.Contains(state, left) {
			t.Errorf("Purge left %q:\n%s", left, state)
		}
	}
	// New namespaces inherit settings of the machine that the test runs on.
	for line := range strings.SplitSeq(nettest.New(t, "fresh").State(t, settings...), "\n") {
		if strings.Contains(line, " = ") && !strings.Contains(state, line) {
			t.Errorf("Purge did not restore %q:\n%s", line, state)
		}
	}
}

func TestLoopbackIsGuarded(t *testing.T) {
	c := newCluster(t)
	c.Serve(t, "127.0.0.1:7000", "secret")
	c.flush(t)
	c.world.Route(t, prefix("127.0.0.0/8"), addr("192.0.2.1"))
	c.world.Do(t, func() error {
		return netlink.WriteSetting("net/ipv4/conf/all/route_localnet", "1")
	})
	// A neighbour on the link tries to reach loopback through this node.
	if conn, err := c.world.Dial("tcp", "127.0.0.1:7000", 300*time.Millisecond); err == nil {
		t.Error("loopback can be reached from outside", conn.RemoteAddr())
	}
	c.MustAsk(t, "tcp", "127.0.0.1:7000")
}
