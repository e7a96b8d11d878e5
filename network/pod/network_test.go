package pod

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sagong/lib/netlink"
	"sagong/lib/netlink/nettest"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

// node is a namespace with a pod network in it.
type node struct {
	*nettest.Namespace
	*Network
	cfg Config
}

func config(t testing.TB, ip, podCIDR string) Config {
	return Config{
		Cluster: "test", NodeIP: addr(ip), StateDir: t.TempDir() + "/network",
		PodCIDRs: []netip.Prefix{prefix(podCIDR)}, ClusterCIDRs: []netip.Prefix{prefix("10.244.0.0/16")},
		ServiceCIDRs: []netip.Prefix{prefix("10.96.0.0/16")},
	}
}

func openIn(t testing.TB, ns *nettest.Namespace, cfg Config) *node {
	t.Helper()
	n := &node{Namespace: ns, cfg: cfg}
	ns.Do(t, func() (err error) {
		n.Network, err = Open(context.Background(), cfg)
		return err
	})
	t.Cleanup(func() { n.Network.Close() })
	return n
}

func (n *node) pod(t testing.TB, key string) (*nettest.Namespace, string) {
	t.Helper()
	ns := nettest.New(t, key)
	a, err := n.Attach(t.Context(), key, ns.Path)
	if err != nil {
		t.Fatal(err)
	}
	return ns, a.IPs[0].String()
}

// oneNode makes a node with an uplink to a namespace that stands for the world.
func oneNode(t testing.TB) (*node, *nettest.Namespace) {
	host, world := nettest.New(t, "host"), nettest.New(t, "world")
	nettest.Link(t, host, "up0", prefix("192.0.2.1/24"), world, "w0", prefix("192.0.2.100/24"))
	host.Route(t, prefix("0.0.0.0/0"), addr("192.0.2.100"))
	return openIn(t, host, config(t, "192.0.2.1", "10.244.1.0/24")), world
}

func TestPodsReachEachOtherTheNodeAndTheWorld(t *testing.T) {
	n, world := oneNode(t)
	a, ipA := n.pod(t, "a")
	b, ipB := n.pod(t, "b")
	a.Serve(t, ipA+":80", "a")
	b.Serve(t, ipB+":80", "b")
	b.ServeUDP(t, ipB+":53", "b")
	world.Serve(t, "192.0.2.100:80", "world")
	n.Serve(t, "192.0.2.1:80", "host")

	for _, c := range []struct {
		from          *nettest.Namespace
		network, to   string
		want, because string
	}{
		{a, "tcp", ipB + ":80", "b " + ipA, "pod to pod keeps the source"},
		{a, "udp", ipB + ":53", "b " + ipA, "datagrams too"},
		{b, "tcp", ipA + ":80", "a " + ipB, "and back"},
		{a, "tcp", ipA + ":80", "a " + ipA, "a pod reaches itself"},
		{n.Namespace, "tcp", ipA + ":80", "a 192.0.2.1", "the node reaches its pods"},
		{a, "tcp", "192.0.2.1:80", "host " + ipA, "a pod reaches its node without NAT"},
		{a, "tcp", "192.0.2.100:80", "world 192.0.2.1", "the world sees the node"},
	} {
		if got := c.from.MustAsk(t, c.network, c.to); got != c.want {
			t.Errorf("%s: %s to %s answered %q, want %q", c.because, c.from.Name, c.to, got, c.want)
		}
	}
	start := time.Now()
	if _, err := a.Ask("tcp", "10.244.1.200:80"); !nettest.Refused(err) || time.Since(start) > time.Second {
		t.Errorf("an unused pod address must be refused at once: %v after %v", err, time.Since(start))
	}
}

func TestAttachIsIdempotentAndSurvivesRestart(t *testing.T) {
	n, _ := oneNode(t)
	ns, ip := n.pod(t, "a")
	again, err := n.Attach(t.Context(), "a", ns.Path)
	if err != nil || again.IPs[0].String() != ip {
		t.Fatalf("second Attach gave %v, %v", again, err)
	}
	n.Network.Close()
	n = openIn(t, n.Namespace, n.cfg)
	if l := n.List(); len(l) != 1 || l[0].Key != "a" || l[0].IPs[0].String() != ip {
		t.Fatalf("after a restart List is %v", l)
	}
	ns.Serve(t, ip+":80", "a")
	if got := n.MustAsk(t, "tcp", ip+":80"); got != "a 192.0.2.1" {
		t.Fatal(got)
	}
	// A restarted pod gets a new namespace and keeps its address.
	fresh := nettest.New(t, "fresh")
	moved, err := n.Attach(t.Context(), "a", fresh.Path)
	if err != nil || moved.IPs[0].String() != ip {
		t.Fatalf("Attach in a new namespace gave %v, %v", moved, err)
	}
	fresh.Serve(t, ip+":80", "fresh")
	if got := n.MustAsk(t, "tcp", ip+":80"); got != "fresh 192.0.2.1" {
		t.Fatal(got)
	}
	if err := n.Detach(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := n.Detach(t.Context(), "a"); err != nil {
		t.Fatal("Detach of an unknown pod:", err)
	}
	if _, other := n.pod(t, "b"); other == ip {
		t.Errorf("address %s was reused at once", ip)
	}
}

func TestRetainReleasesWhatACrashLeft(t *testing.T) {
	n, _ := oneNode(t)
	before := n.State(t)
	_, ipA := n.pod(t, "a")
	n.pod(t, "b")
	kept := n.State(t)
	// A pod whose record is lost but whose interface is there.
	n.pod(t, "lost")
	if _, err := n.book.release("lost"); err != nil {
		t.Fatal(err)
	}
	if err := n.Retain(t.Context(), []string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	if got := n.State(t); got != kept {
		t.Errorf("Retain left\n%s\nwant\n%s", got, kept)
	}
	if err := n.Retain(t.Context(), []string{"a"}); err != nil {
		t.Fatal(err)
	}
	if l := n.List(); len(l) != 1 || l[0].IPs[0].String() != ipA {
		t.Errorf("List is %v", l)
	}
	if err := n.Retain(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := n.State(t); got != before {
		t.Errorf("an empty Retain left\n%s\nwant\n%s", got, before)
	}
}

func TestLostRecordDoesNotShareAnAddress(t *testing.T) {
	n, _ := oneNode(t)
	_, ip := n.pod(t, "a")
	// The file was lost: the address seems free, the interface says otherwise.
	n.book.mu.Lock()
	delete(n.book.leases, "a")
	n.book.set(addr(ip), false)
	n.book.pools[0].next = 2
	n.book.mu.Unlock()
	if _, other := n.pod(t, "b"); other == ip {
		t.Errorf("two pods share %s", ip)
	}
}

func TestPurgeLeavesNothing(t *testing.T) {
	settings := []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet"}
	host, world := nettest.New(t, "host"), nettest.New(t, "world")
	nettest.Link(t, host, "up0", prefix("192.0.2.1/24"), world, "w0", prefix("192.0.2.100/24"))
	before := host.State(t, settings...)
	cfg := config(t, "192.0.2.1", "10.244.1.0/24")
	cfg.Encapsulation = EncapsulationAlways
	n := openIn(t, host, cfg)
	n.pod(t, "a")
	n.pod(t, "b")
	if err := n.SetPeers(t.Context(), []Peer{{"n2", addr("192.0.2.2"), []netip.Prefix{prefix("10.244.2.0/24")}}}); err != nil {
		t.Fatal(err)
	}
	if during := host.State(t, settings...); !strings.Contains(during, "10.244.2.0/24") {
		t.Fatalf("no route to the peer:\n%s", during)
	}
	n.Network.Close()
	for range 2 {
		host.Do(t, func() error { return Purge(context.Background(), Config{Cluster: "test", StateDir: cfg.StateDir}) })
	}
	if after := host.State(t, settings...); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestTwoClustersOnOneMachine(t *testing.T) {
	n, _ := oneNode(t)
	cfg := config(t, "192.0.2.1", "10.245.1.0/24")
	cfg.Cluster, cfg.ClusterCIDRs, cfg.ServiceCIDRs = "other", []netip.Prefix{prefix("10.245.0.0/16")}, []netip.Prefix{prefix("10.97.0.0/16")}
	before := n.State(t)
	m := openIn(t, n.Namespace, cfg)
	a, ipA := n.pod(t, "a")
	b, ipB := m.pod(t, "a")
	a.Serve(t, ipA+":80", "a")
	b.Serve(t, ipB+":80", "b")
	a.MustAsk(t, "tcp", ipB+":80")
	b.MustAsk(t, "tcp", ipA+":80")
	if err := m.Retain(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	m.Network.Close()
	n.Do(t, func() error { return Purge(context.Background(), cfg) })
	if got := n.MustAsk(t, "tcp", ipA+":80"); got != "a 192.0.2.1" {
		t.Error(got)
	}
	if err := n.Detach(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := n.Retain(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if after := n.State(t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestPeers(t *testing.T) {
	for _, c := range []struct {
		name   string
		mode   Encapsulation
		ip1    string
		ip2    string
		routed bool
	}{
		{"on the link", EncapsulationAuto, "192.0.2.1/24", "192.0.2.2/24", false},
		{"on the link, tunnel wanted", EncapsulationAlways, "192.0.2.1/24", "192.0.2.2/24", false},
		{"behind a router", EncapsulationAuto, "192.0.2.1/24", "198.51.100.2/24", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h1, h2 := nettest.New(t, "h1"), nettest.New(t, "h2")
			p1, p2 := prefix(c.ip1), prefix(c.ip2)
			if c.routed {
				r := nettest.New(t, "router")
				nettest.Link(t, h1, "up0", p1, r, "r1", prefix("192.0.2.254/24"))
				nettest.Link(t, h2, "up0", p2, r, "r2", prefix("198.51.100.254/24"))
				h1.Route(t, prefix("0.0.0.0/0"), addr("192.0.2.254"))
				h2.Route(t, prefix("0.0.0.0/0"), addr("198.51.100.254"))
				r.Do(t, func() error { return writeForward() })
			} else {
				nettest.Link(t, h1, "up0", p1, h2, "up0", p2)
			}
			cfg1, cfg2 := config(t, p1.Addr().String(), "10.244.1.0/24"), config(t, p2.Addr().String(), "10.244.2.0/24")
			cfg1.Encapsulation, cfg2.Encapsulation = c.mode, c.mode
			n1, n2 := openIn(t, h1, cfg1), openIn(t, h2, cfg2)
			peer1 := Peer{"n1", p1.Addr(), cfg1.PodCIDRs}
			peer2 := Peer{"n2", p2.Addr(), cfg2.PodCIDRs}
			before := h1.State(t)
			for range 2 {
				if err := n1.SetPeers(t.Context(), []Peer{peer2}); err != nil {
					t.Fatal(err)
				}
				if err := n2.SetPeers(t.Context(), []Peer{peer1}); err != nil {
					t.Fatal(err)
				}
			}
			a, ipA := n1.pod(t, "a")
			b, ipB := n2.pod(t, "b")
			b.Serve(t, ipB+":80", "b")
			b.ServeUDP(t, ipB+":53", "b")
			a.Serve(t, ipA+":80", "a")
			h2.Serve(t, p2.Addr().String()+":80", "h2")
			if got := a.MustAsk(t, "tcp", ipB+":80"); got != "b "+ipA {
				t.Errorf("pod to pod: %q", got)
			}
			if got := a.MustAsk(t, "udp", ipB+":53"); got != "b "+ipA {
				t.Errorf("pod to pod: %q", got)
			}
			if got := b.MustAsk(t, "tcp", ipA+":80"); got != "a "+ipB {
				t.Errorf("pod to pod: %q", got)
			}
			h1.MustAsk(t, "tcp", ipB+":80")
			if got := a.MustAsk(t, "tcp", p2.Addr().String()+":80"); got != "h2 "+p1.Addr().String() {
				t.Errorf("pod to another node: %q", got)
			}
			if err := n1.SetPeers(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if err := n1.Detach(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			if err := n1.Retain(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if after := h1.State(t); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

func TestNodeNamespaces(t *testing.T) {
	host, world := nettest.New(t, "host"), nettest.New(t, "world")
	nettest.Link(t, host, "up0", prefix("192.0.2.1/24"), world, "w0", prefix("192.0.2.100/24"))
	host.Route(t, prefix("0.0.0.0/0"), addr("192.0.2.100"))
	closeFirewall(t, host)
	before := host.State(t, "net/ipv4/ip_forward")
	state := t.TempDir() + "/host"
	dir := t.TempDir()
	var spaces []NodeNamespace
	for i := 2; i <= 3; i++ {
		spaces = append(spaces, NodeNamespace{
			Cluster: "test", Path: fmt.Sprintf("%s/node-%d", dir, i), Subnet: prefix("172.30.0.0/24"),
			Address: addr(fmt.Sprintf("172.30.0.%d", i)), HostAddress: addr("192.0.2.1"),
			ClusterCIDRs: []netip.Prefix{prefix("10.244.0.0/16")}, StateDir: state,
		})
	}
	for _, s := range spaces {
		host.Do(t, func() error { return CreateNodeNamespace(context.Background(), s) })
		t.Cleanup(func() { _ = netlink.DeleteNamespace(s.Path) })
	}
	// Once more, as after a crash of whoever made them: nothing changes.
	made := host.State(t)
	host.Do(t, func() error { return CreateNodeNamespace(context.Background(), spaces[0]) })
	if again := host.State(t); again != made {
		t.Errorf("made twice:\n%s\nonce:\n%s", again, made)
	}
	cfg := config(t, "192.0.2.1", "10.244.1.0/24")
	cfg.StateDir = state
	nodes := []*node{openIn(t, host, cfg)}
	for i, s := range spaces {
		ns := &nettest.Namespace{Path: s.Path, Name: fmt.Sprintf("node-%d", i+2)}
		nodes = append(nodes, openIn(t, ns, config(t, s.Address.String(), fmt.Sprintf("10.244.%d.0/24", i+2))))
	}
	for i, n := range nodes {
		var peers []Peer
		for j, m := range nodes {
			if i != j {
				peers = append(peers, Peer{m.Name, m.cfg.NodeIP, m.cfg.PodCIDRs})
			}
		}
		if err := n.SetPeers(t.Context(), peers); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(n.State(t), TunnelInterface("test")) {
			t.Errorf("node %d uses a tunnel to nodes of the same machine", i+1)
		}
	}
	world.Serve(t, "192.0.2.100:80", "world")
	host.Serve(t, "192.0.2.1:6443", "api")
	var pods []*nettest.Namespace
	var ips []string
	for i, n := range nodes {
		p, ip := n.pod(t, fmt.Sprintf("p%d", i+1))
		p.Serve(t, ip+":80", fmt.Sprintf("p%d", i+1))
		pods, ips = append(pods, p), append(ips, ip)
	}
	for i, p := range pods {
		for j := range pods {
			if got, want := p.MustAsk(t, "tcp", ips[j]+":80"), fmt.Sprintf("p%d %s", j+1, ips[i]); got != want {
				t.Errorf("pod %d to pod %d: %q, want %q", i+1, j+1, got, want)
			}
		}
		if got := p.MustAsk(t, "tcp", "192.0.2.100:80"); got != "world 192.0.2.1" {
			t.Errorf("pod %d to the world: %q", i+1, got)
		}
		p.MustAsk(t, "tcp", "192.0.2.1:6443")
		nodes[i].MustAsk(t, "tcp", "192.0.2.1:6443")
		host.MustAsk(t, "tcp", ips[i]+":80")
	}
	for i, n := range nodes {
		if err := n.Retain(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		n.Network.Close()
		if i > 0 {
			host.Do(t, func() error { return DeleteNodeNamespace(context.Background(), spaces[i-1]) })
		}
	}
	host.Do(t, func() error { return Purge(context.Background(), cfg) })
	if n := firewallRules(t, host); n != 0 {
		t.Errorf("%d rules are left in the host's firewall", n)
	}
	if after := host.State(t, "net/ipv4/ip_forward"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func BenchmarkAttach(b *testing.B) {
	host, world := nettest.New(b, "host"), nettest.New(b, "world")
	nettest.Link(b, host, "up0", prefix("192.0.2.1/24"), world, "w0", prefix("192.0.2.100/24"))
	n := openIn(b, host, config(b, "192.0.2.1", "10.244.0.0/17"))
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		ns := nettest.New(b, fmt.Sprintf("p%d", i))
		b.StartTimer()
		if _, err := n.Attach(b.Context(), ns.Name, ns.Path); err != nil {
			b.Fatal(err)
		}
	}
}

func TestRangesInUseAreRefused(t *testing.T) {
	n, _ := oneNode(t)
	open := func(change func(*Config)) error {
		cfg := config(t, "192.0.2.1", "10.245.1.0/24")
		cfg.Cluster, cfg.ClusterCIDRs, cfg.ServiceCIDRs = "other", []netip.Prefix{prefix("10.245.0.0/16")}, []netip.Prefix{prefix("10.97.0.0/16")}
		change(&cfg)
		var err error
		n.Do(t, func() error {
			var m *Network
			if m, err = Open(context.Background(), cfg); err == nil {
				m.Close()
				return Purge(context.Background(), cfg)
			}
			return nil
		})
		return err
	}
	for _, c := range []struct {
		want   string
		change func(*Config)
	}{
		{"", func(*Config) {}},
		{"range 10.96.0.0/16 is in use on this machine", func(c *Config) { c.ServiceCIDRs = []netip.Prefix{prefix("10.96.0.0/16")} }},
		{"range 10.244.1.0/24 is in use on this machine", func(c *Config) {
			c.PodCIDRs, c.ClusterCIDRs = []netip.Prefix{prefix("10.244.1.0/24")}, []netip.Prefix{prefix("10.244.0.0/16")}
		}},
		{"node address 192.0.2.1 is within the pod range", func(c *Config) { c.ClusterCIDRs = []netip.Prefix{prefix("192.0.0.0/16")} }},
		{"overlaps the Service range", func(c *Config) { c.ServiceCIDRs = []netip.Prefix{prefix("10.245.128.0/17")} }},
	} {
		err := open(c.change)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}
