// Package pod connects pods to the network of their node and of the cluster:
// one routed veth a pod, no bridge, addresses from the node's podCIDRs, routes
// or VXLAN to the other nodes.
//
// A pod sees its address as a /32 on eth0 and one default route through
// 169.254.1.1, an address that exists nowhere: a permanent neighbour entry maps
// it to the node's end of the veth. The node has a /32 route and a permanent
// neighbour for each pod. So nothing is learned, nothing times out, and all
// traffic between pods passes the node's forward hook.
package pod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"sagong/lib/netlink"
	"sagong/lib/nft"
)

const (
	// routeProtocol marks the routes that this package makes.
	routeProtocol = 83
	// podInterface is the name of a pod's end of the veth.
	podInterface = "eth0"
	// reserveMetric ranks the route that catches the node's unused pod addresses
	// behind every other.
	reserveMetric = 1 << 20
)

// gateway is the next hop of every pod.
var gateway = netip.AddrFrom4([4]byte{169, 254, 1, 1})

// gatewayMAC is the link address of the node's end of every veth.
var gatewayMAC = net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}

// Network is the pod network of one node. All methods may be used concurrently.
type Network struct {
	cfg      Config
	nl       *netlink.Conn
	book     *addressBook
	settings *netlink.Settings
	uplink   netlink.Link
	mtu      int

	// pods holds a lock for each key at work: calls for one pod take turns.
	mu   sync.Mutex
	pods map[string]chan struct{}

	// peers guards what SetPeers was told last.
	peers     sync.Mutex
	lastPeers []Peer

	nft   *nft.Conn
	links *netlink.Subscription
	stop  context.CancelFunc
	kept  sync.WaitGroup
}

// Open prepares the node (forwarding, routes, masquerading) and reads which
// pods hold addresses. It changes nothing for pods that are already attached.
// It acts on the network namespace of the calling thread.
func Open(ctx context.Context, cfg Config) (_ *Network, err error) {
	cfg = cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("cannot open the pod network: %w", err)
	}
	n := &Network{cfg: cfg, pods: map[string]chan struct{}{}}
	defer func() {
		if err != nil {
			n.Close()
			err = fmt.Errorf("cannot open the pod network: %w", err)
		}
	}()
	if n.nl, err = netlink.Dial(unix.NETLINK_ROUTE); err != nil {
		return nil, err
	}
	if n.nft, err = nft.Open(); err != nil {
		return nil, err
	}
	if err := n.findUplink(); err != nil {
		return nil, err
	}
	if err := n.checkRanges(); err != nil {
		return nil, err
	}
	if n.book, err = openBook(filepath.Join(cfg.StateDir, "addresses"), cfg.PodCIDRs, cfg.ReuseDelay, cfg.Now); err != nil {
		return nil, err
	}
	if err := writeFootprint(cfg); err != nil {
		return nil, err
	}
	n.settings = netlink.NewSettings(filepath.Join(cfg.StateDir, "settings"))
	if err := n.prepareKernel(); err != nil {
		return nil, err
	}
	if err := n.setBaseRoutes(); err != nil {
		return nil, err
	}
	if err := n.masquerade(); err != nil {
		return nil, err
	}
	if err := n.admit(); err != nil {
		return nil, err
	}
	if n.links, err = netlink.Subscribe(unix.NETLINK_ROUTE, unix.RTMGRP_LINK); err != nil {
		return nil, err
	}
	background, stop := context.WithCancel(context.Background())
	n.stop = stop
	n.kept.Go(func() { n.keep(background) })
	return n, nil
}

// setBaseRoutes sets the routes that do not depend on pods or peers.
func (n *Network) setBaseRoutes() error {
	var b netlink.Builder
	b.SetUp(1)
	for _, c := range n.cfg.PodCIDRs {
		// Without it, a packet to a pod that is gone would follow the default route.
		b.SetRoute(netlink.Route{Destination: c, Type: unix.RTN_UNREACHABLE, Protocol: routeProtocol, Metric: reserveMetric})
	}
	for _, c := range n.cfg.ServiceCIDRs {
		// A host without a default route would refuse to send to a Service
		// before the proxy can rewrite the address.
		b.SetRoute(netlink.Route{Destination: c, Link: 1, Source: n.cfg.NodeIP, Protocol: routeProtocol})
	}
	return n.nl.Do(&b)
}

// findUplink finds the interface that leads to the other nodes.
func (n *Network) findUplink() error {
	links, err := n.nl.Links()
	if err != nil {
		return err
	}
	index := 0
	if n.cfg.Uplink == "" {
		addrs, err := n.nl.Addresses()
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if a.Prefix.Addr() == n.cfg.NodeIP {
				index = a.Link
			}
		}
		if index == 0 {
			return fmt.Errorf("no interface has the node's address %s", n.cfg.NodeIP)
		}
	}
	for _, l := range links {
		if l.Index == index || l.Name == n.cfg.Uplink {
			n.uplink = l
		}
	}
	if n.uplink.Index == 0 {
		return fmt.Errorf("there is no interface %s", n.cfg.Uplink)
	}
	n.mtu = n.cfg.MTU
	if n.mtu == 0 {
		n.mtu = min(n.uplink.MTU, 65535)
		if n.cfg.Encapsulation == EncapsulationAlways {
			n.mtu -= vxlanOverhead
		}
	}
	return nil
}

// checkRanges refuses ranges that this machine uses otherwise: pods or Services
// there could not be reached, or what is there now could not.
func (n *Network) checkRanges() error {
	chains, err := n.nft.Chains(nft.IPv4, TableName(n.cfg.Cluster))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	before, err := readFootprint(n.cfg.StateDir)
	if err != nil {
		return err
	}
	// Routes of this protocol are the cluster's own once it was opened here, else
	// those of another cluster on the machine.
	opened := len(chains) > 0 || len(before.PodCIDRs) > 0
	routes, err := n.nl.Routes(0)
	if err != nil {
		return err
	}
	links, err := n.nl.Links()
	if err != nil {
		return err
	}
	name := func(index int) string {
		for _, l := range links {
			if l.Index == index {
				return l.Name
			}
		}
		return "none"
	}
	for _, c := range slices.Concat(n.cfg.PodCIDRs, n.cfg.ServiceCIDRs) {
		for _, r := range routes {
			if !r.Destination.Overlaps(c) || r.Destination.Bits() == 0 || opened && r.Protocol == routeProtocol {
				continue
			}
			own := strings.HasPrefix(name(r.Link), InterfacePrefix(n.cfg.Cluster))
			switch {
			case own:
			case r.Destination.Bits() >= c.Bits():
				return fmt.Errorf("range %s is in use on this machine: there is a route to %s (interface %s); choose another range for pods or Services", c, r.Destination, name(r.Link))
			default:
				// A wide route, to a private network perhaps, that this range is cut out of.
				n.cfg.Log.Warn("a range of the cluster hides part of a route of this machine", "range", c, "route", r.Destination, "interface", name(r.Link))
			}
		}
	}
	return nil
}

// prepareKernel sets what routing needs, and raises limits that a full node
// would meet; those exist outside of the first network namespace only partly.
func (n *Network) prepareKernel() error {
	if err := n.settings.Set("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	for name, least := range map[string]int{
		"net/ipv4/neigh/default/gc_thresh1": 8192,
		"net/ipv4/neigh/default/gc_thresh2": 32768,
		"net/ipv4/neigh/default/gc_thresh3": 65536,
		"net/netfilter/nf_conntrack_max":    262144,
	} {
		if err := n.settings.Raise(name, least); err != nil && !isHostOnly(err) {
			return err
		}
	}
	return nil
}

func isHostOnly(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS)
}

// Close frees what the process holds; pods stay connected.
func (n *Network) Close() error {
	var errs []error
	if n.stop != nil {
		n.stop()
		n.kept.Wait()
	}
	if n.nft != nil {
		errs = append(errs, n.nft.Close())
	}
	if n.book != nil {
		errs = append(errs, n.book.close())
	}
	if n.nl != nil {
		errs = append(errs, n.nl.Close())
	}
	return errors.Join(errs...)
}

// MTU of the pods' interfaces in bytes.
func (n *Network) MTU() int { return n.mtu }

// lock waits for the turn of key.
func (n *Network) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		n.mu.Lock()
		busy, ok := n.pods[key]
		if !ok {
			done := make(chan struct{})
			n.pods[key] = done
			n.mu.Unlock()
			return func() {
				n.mu.Lock()
				delete(n.pods, key)
				n.mu.Unlock()
				close(done)
			}, nil
		}
		n.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// List returns the pods that hold addresses, sorted by key.
func (n *Network) List() []Attachment {
	n.book.mu.Lock()
	defer n.book.mu.Unlock()
	all := make([]Attachment, 0, len(n.book.leases))
	for _, key := range n.book.keys() {
		all = append(all, Attachment{key, n.addresses(n.book.leases[key])})
	}
	return all
}

func (n *Network) addresses(ips []netip.Addr) Addresses {
	return Addresses{IPs: slices.Clone(ips), HostInterface: hostInterface(n.cfg.Cluster, ips[0]), MTU: n.mtu}
}

// hostInterface is the name of the node's end of a pod's veth. It holds the
// address, so that what a crash left in the kernel explains itself.
func hostInterface(cluster string, ip netip.Addr) string {
	a := ip.As4()
	return fmt.Sprintf("%s%02x%02x%02x%02x", InterfacePrefix(cluster), a[0], a[1], a[2], a[3])
}

// isHostInterface reports whether name is the node's end of a pod of the cluster.
func isHostInterface(cluster, name string) bool {
	hex, ok := strings.CutPrefix(name, InterfacePrefix(cluster))
	return ok && len(hex) == 8 && strings.Trim(hex, "0123456789abcdef") == ""
}

// linkGroup is the interface group of a cluster's veths.
func linkGroup(cluster string) uint32 { return 1<<30 | clusterHash(cluster)>>2 }

// podMAC is the link address of a pod's end: derived, so that nothing must be
// stored and both ends know it.
func podMAC(ip netip.Addr) net.HardwareAddr {
	a := ip.As4()
	return net.HardwareAddr{0x0a, 0x58, a[0], a[1], a[2], a[3]}
}

// footprint is what Purge must know about a network that no process has open.
type footprint struct {
	PodCIDRs, ClusterCIDRs, ServiceCIDRs []netip.Prefix
}

func footprintPath(stateDir string) string { return filepath.Join(stateDir, "network.json") }

func writeFootprint(cfg Config) error {
	// What an earlier configuration used must be purged as well.
	old, err := readFootprint(cfg.StateDir)
	if err != nil {
		return err
	}
	p := footprint{
		PodCIDRs:     union(old.PodCIDRs, cfg.PodCIDRs),
		ClusterCIDRs: union(old.ClusterCIDRs, cfg.ClusterCIDRs),
		ServiceCIDRs: union(old.ServiceCIDRs, cfg.ServiceCIDRs),
	}
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	next := footprintPath(cfg.StateDir) + ".new"
	if err := os.WriteFile(next, data, 0o644); err != nil {
		return fmt.Errorf("cannot note the network's ranges: %w", err)
	}
	if err := os.Rename(next, footprintPath(cfg.StateDir)); err != nil {
		return fmt.Errorf("cannot note the network's ranges: %w", err)
	}
	return nil
}

func union(a, b []netip.Prefix) []netip.Prefix {
	out := slices.Clone(a)
	for _, p := range b {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

func readFootprint(stateDir string) (footprint, error) {
	var p footprint
	data, err := os.ReadFile(footprintPath(stateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		return p, fmt.Errorf("cannot read the network's ranges: %w", err)
	}
	return p, nil
}
