package pod

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"sagong/lib/netlink"
	"sagong/lib/netlink/nettest"
	"sagong/lib/nft"
)

// closeFirewall makes what iptables makes of a firewall that drops by default.
func closeFirewall(t *testing.T, ns *nettest.Namespace) {
	t.Helper()
	ns.Do(t, func() error {
		conn, err := nft.Open()
		if err != nil {
			return err
		}
		defer conn.Close()
		b := nft.NewBatch(nft.IPv4, "filter")
		b.AddTable(nil)
		b.AddChain("FORWARD", &nft.Hook{Type: "filter", Number: unix.NF_INET_FORWARD, Drop: true})
		b.AddChain("INPUT", &nft.Hook{Type: "filter", Number: unix.NF_INET_LOCAL_IN, Drop: true})
		b.AddRule("INPUT", nft.Meta(0, unix.NFT_META_IIF), nft.Equal(0, nft.Native32(1)...), nft.Accept())
		established := nft.StateEstablished | nft.StateRelated
		for _, chain := range []string{"FORWARD", "INPUT"} {
			b.AddRule(chain, nft.LoadState(0), nft.Mask(0, uint32(established)), nft.NotEqual(0, nft.Native32(0)...), nft.Accept())
		}
		return conn.Apply(b)
	})
}

func firewallRules(t *testing.T, ns *nettest.Namespace) (n int) {
	t.Helper()
	ns.Do(t, func() error {
		conn, err := nft.Open()
		if err != nil {
			return err
		}
		defer conn.Close()
		for _, chain := range []string{"FORWARD", "INPUT"} {
			rules, err := conn.Rules(nft.IPv4, "filter", chain)
			if err != nil {
				return err
			}
			for _, r := range rules {
				if strings.HasPrefix(r.Comment, "sagong") {
					n++
				}
			}
		}
		return nil
	})
	return n
}

func TestPodsPassAFirewallOfTheHost(t *testing.T) {
	n, _ := oneNode(t)
	a, ipA := n.pod(t, "a")
	b, ipB := n.pod(t, "b")
	b.Serve(t, ipB+":80", "b")
	n.Serve(t, "192.0.2.1:80", "host")
	closeFirewall(t, n.Namespace)
	if _, err := a.Dial("tcp", ipB+":80", 200*time.Millisecond); err == nil {
		t.Fatal("the test's firewall lets everything through")
	}
	for range 2 {
		if err := n.repair(); err != nil {
			t.Fatal(err)
		}
	}
	if got := a.MustAsk(t, "tcp", ipB+":80"); got != "b "+ipA {
		t.Error(got)
	}
	a.MustAsk(t, "tcp", "192.0.2.1:80")
	if got := firewallRules(t, n.Namespace); got != 3 {
		t.Errorf("%d rules, want 3", got)
	}
	n.Network.Close()
	n.Do(t, func() error { return Purge(context.Background(), n.cfg) })
	if got := firewallRules(t, n.Namespace); got != 0 {
		t.Errorf("%d rules are left in the host's firewall", got)
	}
}

func TestRoutesReturnWithTheUplink(t *testing.T) {
	n, _ := oneNode(t)
	if err := n.SetPeers(t.Context(), []Peer{{"n2", addr("192.0.2.100"), []netip.Prefix{prefix("10.244.2.0/24")}}}); err != nil {
		t.Fatal(err)
	}
	before := n.State(t)
	set := func(flags bool) {
		n.Do(t, func() error {
			nl, err := netlink.Dial(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer nl.Close()
			l, err := nl.Link("up0")
			if err != nil {
				return err
			}
			var b netlink.Builder
			if flags {
				b.SetUp(l.Index)
			} else {
				b.SetDown(l.Index)
			}
			return nl.Do(&b)
		})
	}
	set(false)
	if strings.Contains(n.State(t), "10.244.2.0/24") {
		t.Fatal("the route outlived its link")
	}
	set(true)
	n.Route(t, prefix("0.0.0.0/0"), addr("192.0.2.100"))
	for end := time.Now().Add(time.Minute); n.State(t) != before; {
		if time.Now().After(end) {
			t.Fatalf("got\n%s\nwant\n%s", n.State(t), before)
		}
	}
}

func TestTableReturns(t *testing.T) {
	n, _ := oneNode(t)
	before := n.State(t)
	n.Do(t, func() error {
		_, err := dropTable(TableName("test"))
		return err
	})
	if err := n.repair(); err != nil {
		t.Fatal(err)
	}
	if after := n.State(t); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
	// The same while no process runs.
	n.Network.Close()
	n.Do(t, func() error {
		_, err := dropTable(TableName("test"))
		return err
	})
	openIn(t, n.Namespace, n.cfg)
	if after := n.State(t); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
}
