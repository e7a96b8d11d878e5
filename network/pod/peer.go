package pod

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
	"sagong/lib/netlink"
)

// vxlanOverhead is what the outer headers take: IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14 bytes.
const vxlanOverhead = 50

// TunnelInterface is the name of the cluster's VXLAN device, where one is needed.
func TunnelInterface(cluster string) string { return InterfacePrefix(cluster) + "-vx" }

// tunnelMAC is the link address of a node's tunnel device: derived from its
// podCIDR, so that peers know it without asking.
func tunnelMAC(cidr netip.Prefix) net.HardwareAddr {
	a := cidr.Addr().As4()
	return net.HardwareAddr{0x0a, 0x56, a[0], a[1], a[2], a[3]}
}

// SetPeers makes the pods of exactly these other nodes reachable: by a route
// through the peer where it is on the link, else through VXLAN. A fault with one
// peer does not keep the others from being set.
func (n *Network) SetPeers(ctx context.Context, peers []Peer) error {
	n.peers.Lock()
	defer n.peers.Unlock()
	n.lastPeers = peers
	var errs []error
	var direct, tunnelled []Peer
	links := map[netip.Addr]int{}
	for _, p := range peers {
		if err := n.checkPeer(p); err != nil {
			errs = append(errs, err)
			continue
		}
		if n.cfg.Encapsulation == EncapsulationAlways {
			tunnelled = append(tunnelled, p)
			continue
		}
		r, err := n.nl.RouteTo(p.NodeIP)
		switch {
		case err == nil && r.Link != 1 && !r.Gateway.IsValid() && (r.Type == unix.RTN_UNICAST || r.Type == 0):
			links[p.NodeIP] = r.Link
			direct = append(direct, p)
		case n.cfg.Encapsulation == EncapsulationNever:
			errs = append(errs, fmt.Errorf("node %s at %s is not on the link, and encapsulation is off", p.Name, p.NodeIP))
		case err != nil:
			errs = append(errs, fmt.Errorf("node %s: %w", p.Name, err))
		default:
			tunnelled = append(tunnelled, p)
		}
	}

	var b netlink.Builder
	wanted := map[netip.Prefix]bool{}
	for _, p := range direct {
		for _, c := range p.PodCIDRs {
			wanted[c] = true
			b.SetRoute(netlink.Route{Destination: c, Gateway: p.NodeIP, OnLink: true, Link: links[p.NodeIP], Protocol: routeProtocol})
		}
	}
	if len(tunnelled) > 0 {
		tunnel, err := n.tunnel()
		if err != nil {
			errs = append(errs, err)
		} else {
			errs = append(errs, n.setTunnelled(&b, tunnel, tunnelled))
			for _, p := range tunnelled {
				for _, c := range p.PodCIDRs {
					wanted[c] = true
				}
			}
		}
	} else {
		errs = append(errs, n.removeInterface(TunnelInterface(n.cfg.Cluster)))
	}
	errs = append(errs, n.dropRoutes(&b, wanted), n.nl.Do(&b))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot connect to the pods of other nodes: %w", err)
	}
	return nil
}

func (n *Network) checkPeer(p Peer) error {
	if !p.NodeIP.Is4() {
		return fmt.Errorf("node %s has no IPv4 address", p.Name)
	}
	for _, c := range p.PodCIDRs {
		if !c.Addr().Is4() {
			return fmt.Errorf("podCIDR %s of node %s is IPv6, and pods have IPv4 addresses only", c, p.Name)
		}
		for _, own := range n.cfg.PodCIDRs {
			if own.Overlaps(c) {
				return fmt.Errorf("podCIDR %s of node %s overlaps this node's %s", c, p.Name, own)
			}
		}
	}
	return nil
}

// dropRoutes adds to b the removal of routes to pods of former peers.
func (n *Network) dropRoutes(b *netlink.Builder, wanted map[netip.Prefix]bool) error {
	routes, err := n.nl.Routes(routeProtocol)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.Gateway.IsValid() && !wanted[r.Destination] && within(n.cfg.ClusterCIDRs, r.Destination) {
			b.DeleteRoute(r)
		}
	}
	return nil
}

func within(ranges []netip.Prefix, p netip.Prefix) bool {
	for _, r := range ranges {
		if r.Bits() <= p.Bits() && r.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// tunnel returns the VXLAN device, made anew when it is not as wanted.
func (n *Network) tunnel() (netlink.Link, error) {
	name := TunnelInterface(n.cfg.Cluster)
	want := netlink.VXLAN{
		Name: name, MAC: tunnelMAC(n.cfg.PodCIDRs[0]), MTU: n.uplink.MTU - vxlanOverhead,
		VNI: n.cfg.VNI, Port: n.cfg.VXLANPort, Local: n.cfg.NodeIP, Link: n.uplink.Index,
	}
	l, err := n.nl.Link(name)
	if err == nil && (l.VXLAN.VNI != want.VNI || l.VXLAN.Port != want.Port || l.VXLAN.Local != want.Local ||
		l.VXLAN.Link != want.Link || l.MTU != want.MTU || l.MAC.String() != want.MAC.String()) {
		if err := n.removeInterface(name); err != nil {
			return l, err
		}
		err = unix.ENODEV
	}
	var b netlink.Builder
	if errors.Is(err, unix.ENODEV) {
		b.AddVXLAN(want)
		if err := n.nl.Do(&b); err != nil {
			return l, err
		}
		l, err = n.nl.Link(name)
	}
	if err != nil {
		return l, err
	}
	b.AddAddress(l.Index, netip.PrefixFrom(overlayAddress(n.cfg.PodCIDRs[0]), 32))
	b.SetUp(l.Index)
	return l, n.nl.Do(&b)
}

// setTunnelled adds to b what reaches peers through the tunnel, and the removal
// of what reached former ones.
func (n *Network) setTunnelled(b *netlink.Builder, tunnel netlink.Link, peers []Peer) error {
	source := overlayAddress(n.cfg.PodCIDRs[0])
	hops, entries := map[netip.Addr]bool{}, map[string]bool{}
	for _, p := range peers {
		if len(p.PodCIDRs) == 0 {
			continue
		}
		hop, mac := overlayAddress(p.PodCIDRs[0]), tunnelMAC(p.PodCIDRs[0])
		hops[hop], entries[mac.String()+p.NodeIP.String()] = true, true
		b.SetForwarding(tunnel.Index, mac, p.NodeIP)
		b.SetNeighbour(tunnel.Index, hop, mac)
		for _, c := range p.PodCIDRs {
			b.SetRoute(netlink.Route{
				Destination: c, Gateway: hop, OnLink: true, Source: source,
				Link: tunnel.Index, Protocol: routeProtocol,
			})
		}
	}
	neighbours, err := n.nl.Neighbours(unix.AF_INET)
	if err != nil {
		return err
	}
	for _, nb := range neighbours {
		if nb.Link == tunnel.Index && nb.State&unix.NUD_PERMANENT != 0 && !hops[nb.Address] {
			b.DeleteNeighbour(nb.Link, nb.Address)
		}
	}
	forwarding, err := n.nl.Neighbours(unix.AF_BRIDGE)
	if err != nil {
		return err
	}
	for _, f := range forwarding {
		if f.Link == tunnel.Index && f.Address.IsValid() && !entries[f.MAC.String()+f.Address.String()] {
			b.DeleteForwarding(f.Link, f.MAC, f.Address)
		}
	}
	return nil
}
