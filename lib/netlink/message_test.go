package netlink

import (
	"encoding/hex"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

var (
	mac1 = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	mac2 = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	ip1  = netip.MustParseAddr("10.0.0.1")
	ip6  = netip.MustParseAddr("fd00::1")
)

func sampleRoute() Route {
	return Route{Destination: netip.MustParsePrefix("10.1.0.0/16"), Gateway: ip1, OnLink: true, Source: netip.MustParseAddr("10.0.0.9"), Link: 7, Type: unix.RTN_UNICAST, Protocol: 83, Metric: 5}
}

func sampleFlow() Flow {
	a, b, c := netip.MustParseAddrPort("10.0.0.1:1000"), netip.MustParseAddrPort("10.96.0.1:53"), netip.MustParseAddrPort("10.0.0.2:5353")
	return Flow{Orig: Tuple{17, a, b}, Reply: Tuple{17, c, a}, Zone: 3}
}

// sample has every kind of request.
func sample() *Builder {
	var b Builder
	b.AddVeth(Veth{Name: "v1", PeerName: "eth0", MAC: mac1, PeerMAC: mac2, MTU: 1400, Group: 9, PeerNamespace: 3})
	b.AddVXLAN(VXLAN{Name: "vx", MAC: mac1, MTU: 1450, VNI: 77, Port: 4789, Local: ip1, Link: 2})
	b.SetUp(4)
	b.SetAlias(4, "a pod")
	b.DeleteLink(4)
	b.DeleteGroup(9)
	b.AddAddress(4, netip.PrefixFrom(ip1, 32))
	b.AddAddress(4, netip.PrefixFrom(ip6, 128))
	b.AddHostAddress(1, netip.PrefixFrom(ip1, 32))
	b.DeleteAddress(4, netip.PrefixFrom(ip1, 32))
	b.SetRoute(sampleRoute())
	b.SetRoute(Route{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: ip1, Link: 4})
	b.SetRoute(Route{Destination: netip.MustParsePrefix("10.2.0.0/16"), Type: unix.RTN_UNREACHABLE})
	b.DeleteRoute(sampleRoute())
	b.SetNeighbour(4, ip1, mac1)
	b.DeleteNeighbour(4, ip1)
	b.SetForwarding(5, mac2, ip1)
	b.DeleteForwarding(5, mac2, ip1)
	b.DeleteFlow(sampleFlow())
	return &b
}

func TestEncodingIsGolden(t *testing.T) {
	var out strings.Builder
	b := sample()
	i := 0
	err := ParseMessages(b.Bytes(), func(m Message) error {
		_, err := fmt.Fprintf(&out, "%s: type %d flags %#x\n%s", b.labels[i], m.Type, m.Flags, hex.Dump(m.Data))
		i++
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "messages.golden")
	if *rewrite {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("the encoding changed; if that was meant, and the kernel takes it, run with -rewrite:\n%s", out.String())
	}
}

// What is encoded is read back the same, where kernel answers have the form of
// requests.
func TestRoundTrip(t *testing.T) {
	var all []Message
	if err := ParseMessages(sample().Bytes(), func(m Message) error { all = append(all, m); return nil }); err != nil {
		t.Fatal(err)
	}
	var got []any
	for _, m := range all {
		var v any
		var err error
		switch m.Type {
		case unix.RTM_NEWROUTE:
			v, err = parseRoute(m.Data)
		case unix.RTM_NEWADDR:
			v, err = parseAddress(m.Data)
		case unix.RTM_NEWNEIGH:
			v, err = parseNeighbour(m.Data)
		case unix.NFNL_SUBSYS_CTNETLINK<<8 | ctDelete:
			v, err = parseFlow(m.Data)
		default:
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, v)
	}
	flow := sampleFlow()
	flow.Reply = Tuple{}
	want := []any{
		Address{4, netip.PrefixFrom(ip1, 32), unix.RT_SCOPE_UNIVERSE},
		Address{4, netip.PrefixFrom(ip6, 128), unix.RT_SCOPE_UNIVERSE},
		Address{1, netip.PrefixFrom(ip1, 32), unix.RT_SCOPE_HOST},
		sampleRoute(),
		Route{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: ip1, Link: 4, Type: unix.RTN_UNICAST},
		Route{Destination: netip.MustParsePrefix("10.2.0.0/16"), Type: unix.RTN_UNREACHABLE},
		Neighbour{4, ip1, mac1, unix.NUD_PERMANENT},
		Neighbour{5, ip1, mac2, unix.NUD_PERMANENT},
		flow,
	}
	for i := range want {
		if i >= len(got) || !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("read %+v, want %+v", got[i], want[i])
		}
	}
}

func TestErrorsNameTheRequest(t *testing.T) {
	c, err := Dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Link("no-such-link"); err == nil || !strings.Contains(err.Error(), "cannot find interface no-such-link") {
		t.Errorf("got %v", err)
	}
	if l, err := c.Link("lo"); err != nil || l.Index != 1 || l.Name != "lo" {
		t.Errorf("loopback is %+v, %v", l, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample().Bytes())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		_ = ParseMessages(p, func(m Message) error {
			_ = parseError(m, "x")
			_, _ = parseLink(m.Data)
			_, _ = parseAddress(m.Data)
			_, _ = parseRoute(m.Data)
			_, _ = parseNeighbour(m.Data)
			_, _ = parseFlow(m.Data)
			return nil
		})
	})
}
