package pod

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"
	"sagong/lib/netlink"
)

// Attach gives the pod called key an address and, in the network namespace at
// netnsPath, an interface eth0 with it. It is idempotent: the same key in the
// same namespace gets the same addresses, and what is missing is completed.
func (n *Network) Attach(ctx context.Context, key, netnsPath string) (Addresses, error) {
	unlock, err := n.lock(ctx, key)
	if err != nil {
		return Addresses{}, fmt.Errorf("cannot attach pod %s to the network: %w", key, err)
	}
	defer unlock()
	got, err := n.attach(key, netnsPath)
	if err != nil {
		return Addresses{}, fmt.Errorf("cannot attach pod %s to the network: %w", key, err)
	}
	return got, nil
}

func (n *Network) attach(key, netnsPath string) (Addresses, error) {
	ns, err := os.Open(netnsPath)
	if err != nil {
		return Addresses{}, err
	}
	defer ns.Close()
	var inside *netlink.Conn
	if err := netlink.InNamespace(netnsPath, func() (err error) {
		if inside, err = netlink.Dial(unix.NETLINK_ROUTE); err != nil {
			return err
		}
		// Programs without privileges may listen on port 80 and send pings: all
		// ports of the pod are its own.
		for name, value := range podSettings {
			if err := netlink.WriteSetting(name, value); err != nil && !isHostOnly(err) {
				return err
			}
		}
		return nil
	}); err != nil {
		if inside != nil {
			inside.Close()
		}
		return Addresses{}, err
	}
	defer inside.Close()

	for {
		ips, known, err := n.book.lease(key)
		if err != nil {
			return Addresses{}, err
		}
		got := n.addresses(ips)
		made, err := n.makeVeth(got, known, inside, ns)
		if errors.Is(err, unix.EEXIST) && !known {
			// Another pod's interface still has this address, though the file
			// does not say so: let it rest, and take the next.
			n.cfg.Log.Warn("pod address is in use although nothing holds it", "address", ips[0], "interface", got.HostInterface)
			if _, err := n.book.release(key); err != nil {
				return Addresses{}, err
			}
			continue
		}
		if err == nil {
			err = n.configure(key, ips, got.HostInterface, inside)
		}
		if err != nil {
			if made {
				err = errors.Join(err, n.removeInterface(got.HostInterface))
			}
			if !known {
				_, e := n.book.release(key)
				err = errors.Join(err, e)
			}
			return Addresses{}, err
		}
		return got, nil
	}
}

// podSettings are the kernel settings inside of a pod, as containerd 2 sets them.
var podSettings = map[string]string{
	"net/ipv4/ip_unprivileged_port_start": "0",
	"net/ipv4/ping_group_range":           "0 2147483647",
}

// makeVeth makes the pod's interface, unless it is there. One with the name of an
// address that the pod did not hold before is another pod's.
func (n *Network) makeVeth(a Addresses, known bool, inside *netlink.Conn, ns *os.File) (made bool, err error) {
	add := func() error {
		var b netlink.Builder
		b.AddVeth(netlink.Veth{
			Name: a.HostInterface, PeerName: podInterface, MAC: gatewayMAC, PeerMAC: podMAC(a.IPs[0]),
			MTU: n.mtu, Group: linkGroup(n.cfg.Cluster), PeerNamespace: int(ns.Fd()),
		})
		return n.nl.Do(&b)
	}
	err = add()
	if !errors.Is(err, unix.EEXIST) {
		return err == nil, err
	}
	_, outerErr := n.nl.Link(a.HostInterface)
	if outerErr == nil && !known {
		return false, err
	}
	inner, innerErr := inside.Link(podInterface)
	switch {
	case outerErr == nil && innerErr == nil && slices.Equal(inner.MAC, podMAC(a.IPs[0])):
		return false, nil
	case outerErr == nil:
		// The interface of this pod's former namespace, which died with it or will.
		if err := n.removeInterface(a.HostInterface); err != nil {
			return false, err
		}
		err = add()
		return err == nil, err
	}
	return false, fmt.Errorf("the pod's namespace has an interface %s that is not this network's", podInterface)
}

// configure completes addresses, neighbours and routes at both ends.
func (n *Network) configure(key string, ips []netip.Addr, hostName string, inside *netlink.Conn) error {
	inner, err := inside.Link(podInterface)
	if err != nil {
		return err
	}
	outer, err := n.nl.Link(hostName)
	if err != nil {
		return err
	}
	var b netlink.Builder
	b.SetUp(1)
	b.SetUp(inner.Index)
	for _, ip := range ips {
		b.AddAddress(inner.Index, netip.PrefixFrom(ip, ip.BitLen()))
	}
	b.SetNeighbour(inner.Index, gateway, gatewayMAC)
	b.SetRoute(netlink.Route{
		Destination: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Gateway: gateway, OnLink: true,
		Link: inner.Index, Protocol: routeProtocol,
	})
	if err := inside.Do(&b); err != nil {
		return err
	}
	b.SetAlias(outer.Index, key)
	for _, ip := range ips {
		b.SetNeighbour(outer.Index, ip, podMAC(ips[0]))
		b.SetRoute(netlink.Route{Destination: netip.PrefixFrom(ip, ip.BitLen()), Link: outer.Index, Protocol: routeProtocol})
	}
	return n.nl.Do(&b)
}

// removeInterface removes an interface of the node if it exists.
func (n *Network) removeInterface(name string) error {
	l, err := n.nl.Link(name)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return err
	}
	var b netlink.Builder
	b.DeleteLink(l.Index)
	if err := n.nl.Do(&b); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

// Detach releases the addresses of the pod called key and its route. The
// interface goes with the pod's network namespace, which the caller unmounts:
// the kernel then reclaims it in the background, where an explicit delete costs
// 16 ms. An unknown key is not an error.
func (n *Network) Detach(ctx context.Context, key string) error {
	unlock, err := n.lock(ctx, key)
	if err != nil {
		return fmt.Errorf("cannot detach pod %s from the network: %w", key, err)
	}
	defer unlock()
	if err := n.detach(key); err != nil {
		return fmt.Errorf("cannot detach pod %s from the network: %w", key, err)
	}
	return nil
}

func (n *Network) detach(key string) error {
	ips, err := n.book.release(key)
	if err != nil {
		return err
	}
	var b netlink.Builder
	for _, ip := range ips {
		b.DeleteRoute(netlink.Route{Destination: netip.PrefixFrom(ip, ip.BitLen()), Protocol: routeProtocol})
	}
	for _, err := range n.nl.DoEach(&b) {
		// The route is gone when the namespace went first.
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// Retain releases the addresses of every pod that is not among keys, and
// removes the interfaces that no pod holds: what a crash between two steps left
// behind.
func (n *Network) Retain(ctx context.Context, keys []string) error {
	keep := make(map[string]bool, len(keys))
	for _, k := range keys {
		keep[k] = true
	}
	var errs []error
	for _, a := range n.List() {
		if !keep[a.Key] {
			n.cfg.Log.Info("releasing the address of a pod that is gone", "pod", a.Key, "address", a.IPs[0])
			errs = append(errs, n.Detach(ctx, a.Key))
		}
	}
	held := map[string]bool{}
	for _, a := range n.List() {
		held[a.HostInterface] = true
	}
	links, err := n.nl.Links()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	var b netlink.Builder
	for _, l := range links {
		if isHostInterface(n.cfg.Cluster, l.Name) && !held[l.Name] {
			n.cfg.Log.Info("removing the interface of a pod that is gone", "pod", l.Alias, "interface", l.Name)
			b.DeleteLink(l.Index)
		}
	}
	for _, err := range n.nl.DoEach(&b) {
		if !errors.Is(err, unix.ENODEV) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot clean the pod network: %w", err)
	}
	return nil
}
