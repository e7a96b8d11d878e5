package dns

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"sagong/lib/netlink/nettest"
	"sagong/network/pod"
	"sagong/network/proxy"
)

// BenchmarkNode measures how long a node's whole network takes to open and to
// serve its first Service.
func BenchmarkNode(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		host, world := nettest.New(b, "host"), nettest.New(b, "world")
		nettest.Link(b, host, "up0", prefix("192.0.2.1/24"), world, "w0", prefix("192.0.2.100/24"))
		dir := b.TempDir()
		b.StartTimer()
		host.Do(b, func() error {
			ip, cidr := netip.MustParseAddr("192.0.2.1"), []netip.Prefix{prefix("10.244.1.0/24")}
			t0 := time.Now()
			n, err := pod.Open(context.Background(), pod.Config{Cluster: "b", NodeIP: ip, PodCIDRs: cidr, ClusterCIDRs: cidr, StateDir: dir})
			if err != nil {
				return err
			}
			defer n.Close()
			t1 := time.Now()
			p, err := proxy.Open(context.Background(), proxy.Config{Cluster: "b", NodeName: "n", NodeIP: ip, PodCIDRs: cidr, ClusterCIDRs: cidr, StateDir: dir})
			if err != nil {
				return err
			}
			defer p.Close()
			t2 := time.Now()
			p.Start()
			if err := p.Flush(context.Background()); err != nil {
				return err
			}
			t3 := time.Now()
			d, err := Open(context.Background(), Config{Addresses: []netip.Addr{dnsAddress}})
			if err != nil {
				return err
			}
			defer d.Close()
			b.Logf("pod %v proxy %v first flush %v dns %v", t1.Sub(t0), t2.Sub(t1), t3.Sub(t2), time.Since(t3))
			return nil
		})
	}
}
