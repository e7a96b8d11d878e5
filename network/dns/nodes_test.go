package dns

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/lib/netlink"
	"sagong/lib/netlink/nettest"
	"sagong/network/pod"
	"sagong/network/proxy"
)

// testNode is a whole node: pod network, Service proxy and DNS.
type testNode struct {
	*nettest.Namespace
	name  string
	ip    netip.Addr
	cidr  netip.Prefix
	pods  *pod.Network
	proxy *proxy.Proxy
	dns   *Server
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func newNode(t *testing.T, ns *nettest.Namespace, name, ip, cidr string, mode pod.Encapsulation) *testNode {
	n := &testNode{Namespace: ns, name: name, ip: netip.MustParseAddr(ip), cidr: prefix(cidr)}
	state := t.TempDir() + "/state"
	clusterCIDRs, serviceCIDRs := []netip.Prefix{prefix("10.244.0.0/16")}, []netip.Prefix{prefix("10.96.0.0/16")}
	n.Do(t, func() (err error) {
		// Nothing may depend on a loose check of the way back.
		if err := netlink.WriteSetting("net/ipv4/conf/all/rp_filter", "1"); err != nil {
			return err
		}
		if n.pods, err = pod.Open(context.Background(), pod.Config{
			Cluster: "test", NodeIP: n.ip, PodCIDRs: []netip.Prefix{n.cidr}, ClusterCIDRs: clusterCIDRs,
			ServiceCIDRs: serviceCIDRs, StateDir: state, Encapsulation: mode,
		}); err != nil {
			return err
		}
		if n.proxy, err = proxy.Open(context.Background(), proxy.Config{
			Cluster: "test", NodeName: name, NodeIP: n.ip, PodCIDRs: []netip.Prefix{n.cidr}, ClusterCIDRs: clusterCIDRs,
			ServiceCIDRs: serviceCIDRs, Served: []netip.Addr{dnsAddress}, StateDir: state,
		}); err != nil {
			return err
		}
		n.dns, err = Open(context.Background(), Config{Addresses: []netip.Addr{dnsAddress}, Upstreams: []netip.AddrPort{}})
		return err
	})
	t.Cleanup(func() {
		n.dns.Close()
		n.proxy.Close()
		n.pods.Close()
	})
	return n
}

func (n *testNode) pod(t *testing.T, name string) (*nettest.Namespace, string) {
	ns := nettest.New(t, name)
	a, err := n.pods.Attach(t.Context(), name, ns.Path)
	if err != nil {
		t.Fatal(err)
	}
	ip := a.IPs[0].String()
	ns.Serve(t, ip+":8080", name)
	return ns, ip
}

func TestServicesAndDNSAcrossNodes(t *testing.T) {
	for _, c := range []struct {
		name     string
		mode     pod.Encapsulation
		ip1, ip2 string
	}{
		{"routed", pod.EncapsulationAuto, "192.0.2.1", "192.0.2.2"},
		{"tunnelled", pod.EncapsulationAuto, "192.0.2.1", "198.51.100.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h1, h2 := nettest.New(t, "h1"), nettest.New(t, "h2")
			if c.name == "routed" {
				nettest.Link(t, h1, "up0", prefix(c.ip1+"/24"), h2, "up0", prefix(c.ip2+"/24"))
			} else {
				r := nettest.New(t, "router")
				nettest.Link(t, h1, "up0", prefix(c.ip1+"/24"), r, "r1", prefix("192.0.2.254/24"))
				nettest.Link(t, h2, "up0", prefix(c.ip2+"/24"), r, "r2", prefix("198.51.100.254/24"))
				h1.Route(t, prefix("0.0.0.0/0"), netip.MustParseAddr("192.0.2.254"))
				h2.Route(t, prefix("0.0.0.0/0"), netip.MustParseAddr("198.51.100.254"))
				r.Do(t, func() error { return netlink.WriteSetting("net/ipv4/ip_forward", "1") })
			}
			nodes := []*testNode{
				newNode(t, h1, "n1", c.ip1, "10.244.1.0/24", c.mode),
				newNode(t, h2, "n2", c.ip2, "10.244.2.0/24", c.mode),
			}
			slice := &discoveryv1.EndpointSlice{
				ObjectMeta:  metav1.ObjectMeta{Namespace: "demo", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
				AddressType: discoveryv1.AddressTypeIPv4,
				Ports:       []discoveryv1.EndpointPort{{Port: ptr(int32(8080))}},
			}
			var clients, servers []*nettest.Namespace
			for i, n := range nodes {
				other := nodes[1-i]
				if err := n.pods.SetPeers(t.Context(), []pod.Peer{{Name: other.name, NodeIP: other.ip, PodCIDRs: []netip.Prefix{other.cidr}}}); err != nil {
					t.Fatal(err)
				}
				server, ip := n.pod(t, fmt.Sprintf("web%d", i+1))
				client, _ := n.pod(t, fmt.Sprintf("client%d", i+1))
				clients, servers = append(clients, client), append(servers, server)
				slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}, NodeName: &n.name})
			}
			service := &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "web"},
				Spec: corev1.ServiceSpec{
					Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.50", ClusterIPs: []string{"10.96.0.50"},
					Ports: []corev1.ServicePort{{Port: 80, NodePort: 30080}},
				},
			}
			for _, n := range nodes {
				n.proxy.SetService(service)
				n.proxy.SetEndpointSlice(slice)
				n.dns.SetService(service)
				n.dns.SetEndpointSlice(slice)
				n.proxy.Start()
				n.dns.Start()
				n.Do(t, func() error { return n.proxy.Flush(context.Background()) })
			}
			both := func(from *nettest.Namespace, to string) {
				t.Helper()
				var names []string
				for range 100 { // each is as likely
					if len(names) == 2 {
						break
					}
					name, _, _ := strings.Cut(from.MustAsk(t, "tcp", to), " ")
					if !slices.Contains(names, name) {
						names = append(names, name)
					}
				}
				if len(names) != 2 {
					t.Errorf("from %s to %s: only %v answer", from.Name, to, names)
				}
			}
			for i, n := range nodes {
				both(clients[i], "10.96.0.50:80")
				both(servers[i], "10.96.0.50:80")
				both(n.Namespace, "10.96.0.50:80")
				both(n.Namespace, "127.0.0.1:30080")
				both(n.Namespace, n.ip.String()+":30080")
				both(nodes[1-i].Namespace, n.ip.String()+":30080")
				both(clients[1-i], n.ip.String()+":30080")
				for _, network := range []string{"udp", "tcp"} {
					conn, err := clients[i].Dial(network, "10.96.0.10:53", time.Second)
					if err != nil {
						t.Fatal(err)
					}
					_ = conn.SetDeadline(time.Now().Add(time.Minute))
					m, _, err := (&miekg.Client{Net: network}).ExchangeWithConn(
						new(miekg.Msg).SetQuestion("web.demo.svc.cluster.local.", miekg.TypeA), &miekg.Conn{Conn: conn})
					if err != nil || len(m.Answer) != 1 {
						t.Errorf("DNS by %s from a pod of %s: %v, %v", network, n.name, m, err)
					}
					conn.Close()
				}
				if answered := n.dns.Stats().Answered; answered != 2 {
					t.Errorf("%s answered %d questions, want those of its own pods", n.name, answered)
				}
			}
		})
	}
}
