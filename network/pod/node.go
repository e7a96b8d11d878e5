package pod

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
	"sagong/lib/netlink"
	"sagong/lib/nft"
)

// NodeNamespace describes a further node on this machine: a network namespace
// in which its agent runs, tied to the host by a veth. The host routes between
// the nodes and masquerades what leaves the machine.
type NodeNamespace struct {
	// Cluster is the cluster's name.
	Cluster string
	// Path is where the namespace is bound, such as /run/sagong/netns/node-2.
	// Start the agent inside with netlink.InNamespace.
	Path string
	// Subnet holds the addresses of all such nodes of the cluster.
	Subnet netip.Prefix
	// Address is this node's, within Subnet.
	Address netip.Addr
	// HostAddress is the address of the host, which every node here has on its link.
	HostAddress netip.Addr
	// ClusterCIDRs are the ranges of all pods of the cluster.
	ClusterCIDRs []netip.Prefix
	// MTU in bytes; 0: that of the interface that holds HostAddress.
	MTU int
	// StateDir is where the former kernel settings of the host are kept: the
	// same for all nodes of the cluster on the machine.
	StateDir string
}

func nodeTable(cluster string) string { return "sagong-nodes-" + cluster }

// hostEnd is the name of the host's interface to the node.
func (ns NodeNamespace) hostEnd() string {
	a := ns.Address.As4()
	return fmt.Sprintf("%s-%02x%02x%02x%02x", InterfacePrefix(ns.Cluster), a[0], a[1], a[2], a[3])
}

func (ns NodeNamespace) validate() error {
	switch {
	case ns.Cluster == "" || ns.Path == "" || ns.StateDir == "":
		return errors.New("cluster, path or state directory is missing")
	case !ns.Address.Is4() || !ns.HostAddress.Is4():
		return errors.New("node and host need IPv4 addresses")
	case !ns.Subnet.Contains(ns.Address):
		return fmt.Errorf("address %s is not within %s", ns.Address, ns.Subnet)
	case ns.Subnet.Contains(ns.HostAddress):
		return fmt.Errorf("the host's address %s must be outside of %s", ns.HostAddress, ns.Subnet)
	}
	return nil
}

// CreateNodeNamespace makes the namespace and connects it. One that is there and
// usable stays, with all that runs in it, and is completed. On an error nothing
// new stays behind.
func CreateNodeNamespace(ctx context.Context, ns NodeNamespace) error {
	if err := ns.validate(); err != nil {
		return fmt.Errorf("cannot make the namespace of a node: %w", err)
	}
	err := netlink.CreateNamespace(ns.Path)
	if errors.Is(err, os.ErrExist) {
		if ns.connected() {
			if err := ns.connect(); err != nil {
				return fmt.Errorf("cannot complete the namespace of a node: %w", err)
			}
			return nil
		}
		// Left by a crash of the machine or in the middle of a removal.
		if err := DeleteNodeNamespace(ctx, ns); err != nil {
			return err
		}
		err = netlink.CreateNamespace(ns.Path)
	}
	if err != nil {
		return err
	}
	if err := ns.connect(); err != nil {
		return errors.Join(fmt.Errorf("cannot make the namespace of a node: %w", err), DeleteNodeNamespace(ctx, ns))
	}
	return nil
}

// connected reports whether the namespace exists with both ends of its veth.
func (ns NodeNamespace) connected() bool {
	outside, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return false
	}
	defer outside.Close()
	if _, err := outside.Link(ns.hostEnd()); err != nil {
		return false
	}
	inside, err := netlink.DialIn(ns.Path, unix.NETLINK_ROUTE)
	if err != nil {
		return false
	}
	defer inside.Close()
	l, err := inside.Link(podInterface)
	return err == nil && slices.Equal(l.MAC, podMAC(ns.Address))
}

// connect makes the veth unless it is there, and sets everything else.
func (ns NodeNamespace) connect() error {
	nl, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	mtu := ns.MTU
	if mtu == 0 {
		if mtu, err = mtuOf(nl, ns.HostAddress); err != nil {
			return err
		}
	}
	file, err := os.Open(ns.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	var b netlink.Builder
	b.AddVeth(netlink.Veth{
		Name: ns.hostEnd(), PeerName: podInterface, MAC: gatewayMAC, PeerMAC: podMAC(ns.Address),
		MTU: mtu, PeerNamespace: int(file.Fd()),
	})
	if err := nl.Do(&b); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	outer, err := nl.Link(ns.hostEnd())
	if err != nil {
		return err
	}
	b.SetAlias(outer.Index, filepath.Base(ns.Path))
	b.SetNeighbour(outer.Index, ns.Address, podMAC(ns.Address))
	b.SetRoute(netlink.Route{Destination: netip.PrefixFrom(ns.Address, 32), Link: outer.Index, Source: ns.HostAddress, Protocol: routeProtocol})
	if err := nl.Do(&b); err != nil {
		return err
	}
	settings := netlink.NewSettings(filepath.Join(ns.StateDir, "settings"))
	if err := settings.Set("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	// The host answers for the other nodes, at once: each node takes all of them
	// for its neighbours and routes directly to their pods.
	for name, value := range map[string]string{
		"net/ipv4/conf/" + ns.hostEnd() + "/proxy_arp":    "1",
		"net/ipv4/neigh/" + ns.hostEnd() + "/proxy_delay": "0",
	} {
		if err := netlink.WriteSetting(name, value); err != nil {
			return err
		}
	}
	inside, err := netlink.DialIn(ns.Path, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer inside.Close()
	inner, err := inside.Link(podInterface)
	if err != nil {
		return err
	}
	b.SetUp(1)
	b.SetUp(inner.Index)
	b.AddAddress(inner.Index, netip.PrefixFrom(ns.Address, 32))
	b.SetNeighbour(inner.Index, ns.HostAddress, gatewayMAC)
	b.SetRoute(netlink.Route{Destination: netip.PrefixFrom(ns.HostAddress, 32), Link: inner.Index, Source: ns.Address, Protocol: routeProtocol})
	b.SetRoute(netlink.Route{Destination: ns.Subnet.Masked(), Link: inner.Index, Source: ns.Address, Protocol: routeProtocol})
	b.SetRoute(netlink.Route{
		Destination: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Gateway: ns.HostAddress, OnLink: true,
		Link: inner.Index, Source: ns.Address, Protocol: routeProtocol,
	})
	if err := inside.Do(&b); err != nil {
		return err
	}
	return ns.masquerade()
}

// masquerade makes what nodes send out of the machine come from the host.
func (ns NodeNamespace) masquerade() error {
	b := nft.NewBatch(nft.IPv4, nodeTable(ns.Cluster))
	b.AddTable(nil)
	b.DeleteTable()
	b.AddTable(nil)
	b.AddChain("postrouting", &nft.Hook{Type: "nat", Number: unix.NF_INET_POST_ROUTING, Priority: 100})
	for _, c := range append([]netip.Prefix{ns.Subnet.Masked()}, ns.ClusterCIDRs...) {
		b.AddRule("postrouting", append(inRange(nft.LoadDestination(0), c), nft.Return())...)
	}
	rule := append(inRange(nft.LoadSource(0), ns.Subnet.Masked()), notOutPrefix(InterfacePrefix(ns.Cluster))...)
	b.AddRule("postrouting", append(rule, nft.Masquerade())...)
	conn, err := nft.Open()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Apply(b); err != nil {
		return err
	}
	_, err = admit(conn, ns.Cluster, nodeComment(ns.Cluster), append([]netip.Prefix{ns.Subnet.Masked()}, ns.ClusterCIDRs...))
	return err
}

func mtuOf(nl *netlink.Conn, addr netip.Addr) (int, error) {
	addrs, err := nl.Addresses()
	if err != nil {
		return 0, err
	}
	links, err := nl.Links()
	if err != nil {
		return 0, err
	}
	for _, a := range addrs {
		for _, l := range links {
			if a.Prefix.Addr() == addr && l.Index == a.Link {
				return l.MTU, nil
			}
		}
	}
	return 0, fmt.Errorf("no interface has the host's address %s", addr)
}

// DeleteNodeNamespace disconnects and removes a node's namespace; its processes
// must have ended. With the last node of the cluster the host's rules go too.
// What does not exist is not an error.
func DeleteNodeNamespace(ctx context.Context, ns NodeNamespace) error {
	nl, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	var errs []error
	if l, err := nl.Link(ns.hostEnd()); err == nil {
		var b netlink.Builder
		b.DeleteLink(l.Index)
		errs = append(errs, nl.Do(&b))
	} else if !errors.Is(err, unix.ENODEV) {
		errs = append(errs, err)
	}
	errs = append(errs, netlink.DeleteNamespace(ns.Path))
	links, err := nl.Links()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	last := true
	for _, l := range links {
		last = last && !isHostEnd(ns.Cluster, l.Name)
	}
	if last {
		alone, err := dropTable(nodeTable(ns.Cluster))
		errs = append(errs, err, withoutRules(nodeComment(ns.Cluster)))
		if alone {
			errs = append(errs, netlink.NewSettings(filepath.Join(ns.StateDir, "settings")).Restore())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot remove the namespace of a node: %w", err)
	}
	return nil
}

func isHostEnd(cluster, name string) bool {
	prefix := InterfacePrefix(cluster) + "-"
	return len(name) == len(prefix)+8 && name[:len(prefix)] == prefix
}

// DetectNodeAddress finds the address under which this machine is known: the
// source of its default route, else the first global IPv4 address.
func DetectNodeAddress() (netip.Addr, error) {
	nl, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return netip.Addr{}, err
	}
	defer nl.Close()
	routes, err := nl.Routes(0)
	if err != nil {
		return netip.Addr{}, err
	}
	addrs, err := nl.Addresses()
	if err != nil {
		return netip.Addr{}, err
	}
	usable := func(a netlink.Address) bool {
		return a.Prefix.Addr().Is4() && a.Scope == unix.RT_SCOPE_UNIVERSE && a.Link != 1
	}
	for _, r := range routes {
		if r.Destination.Bits() != 0 {
			continue
		}
		if r.Source.IsValid() {
			return r.Source, nil
		}
		for _, a := range addrs {
			if a.Link == r.Link && usable(a) {
				return a.Prefix.Addr(), nil
			}
		}
	}
	for _, a := range addrs {
		if usable(a) {
			return a.Prefix.Addr(), nil
		}
	}
	return netip.Addr{}, errors.New("cannot find an address of this machine: no interface has an IPv4 address other than loopback")
}
