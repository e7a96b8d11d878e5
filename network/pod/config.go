package pod

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/netip"
	"time"
)

// Encapsulation says how packets reach pods of other nodes.
type Encapsulation string

const (
	// EncapsulationAuto routes directly to peers on the same link and wraps packets for the others in VXLAN.
	EncapsulationAuto Encapsulation = ""
	// EncapsulationAlways wraps packets for every peer in VXLAN.
	EncapsulationAlways Encapsulation = "vxlan"
	// EncapsulationNever only ever routes; a peer that is not on the link is an error.
	EncapsulationNever Encapsulation = "none"
)

// Config describes the pod network of one node. Cluster, NodeIP, PodCIDRs,
// ClusterCIDRs and StateDir are required; Defaults fills the rest.
type Config struct {
	// Cluster is the cluster's name. Interface and table names derive from it,
	// so that two clusters can share a machine.
	Cluster string
	// NodeIP is the node's own address: source of its traffic to Services, and tunnel end point.
	NodeIP netip.Addr
	// PodCIDRs are the ranges this node gives its pods addresses from; today one IPv4 range.
	PodCIDRs []netip.Prefix
	// ClusterCIDRs are the ranges of all pods of the cluster; traffic inside them keeps its source address.
	ClusterCIDRs []netip.Prefix
	// ServiceCIDRs are the ranges of Service addresses; the node gets a route for them.
	ServiceCIDRs []netip.Prefix
	// Uplink is the interface that leads to the other nodes; empty: the one that holds NodeIP.
	Uplink string
	// MTU of pod interfaces in bytes; 0: the uplink's, less the VXLAN header where that may be used.
	MTU int
	// Encapsulation says how other nodes are reached.
	Encapsulation Encapsulation
	// VNI and VXLANPort identify the tunnel; 0: derived from Cluster, and 4789.
	VNI       uint32
	VXLANPort uint16
	// StateDir is a directory of this node's own for the address file; it is made when missing.
	StateDir string
	// ReuseDelay is how long a released address rests before another pod may get it; 0: 30 s.
	ReuseDelay time.Duration
	// Log receives what is repaired or left behind; nil: discarded.
	Log *slog.Logger
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Defaults returns c with every unset optional field filled.
func (c Config) Defaults() Config {
	if c.VNI == 0 {
		c.VNI = 1 + clusterHash(c.Cluster)&0x7fffff
	}
	if c.VXLANPort == 0 {
		c.VXLANPort = 4789
	}
	if c.ReuseDelay == 0 {
		c.ReuseDelay = 30 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Validate reports every fault of c at once.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Cluster == "" {
		fault("the cluster's name is missing")
	}
	if !c.NodeIP.Is4() || c.NodeIP.IsLoopback() || c.NodeIP.IsUnspecified() {
		fault("node address %s is not an IPv4 address that pods can reach", c.NodeIP)
	}
	if c.StateDir == "" {
		fault("the state directory is missing")
	}
	if len(c.PodCIDRs) == 0 {
		fault("the node has no podCIDR")
	}
	for _, p := range c.PodCIDRs {
		switch {
		case !p.IsValid() || p != p.Masked():
			fault("podCIDR %s is not a network prefix", p)
		case !p.Addr().Is4():
			fault("podCIDR %s is IPv6, and pods have IPv4 addresses only", p)
		case p.Bits() < 8 || p.Bits() > 29:
			fault("podCIDR %s must be between /8 and /29", p)
		}
	}
	if len(c.PodCIDRs) > 1 {
		fault("the node has %d podCIDRs, and one IPv4 range can be used", len(c.PodCIDRs))
	}
	if len(c.ClusterCIDRs) == 0 {
		fault("the cluster's pod range is missing")
	}
	for _, p := range append(append([]netip.Prefix(nil), c.ClusterCIDRs...), c.ServiceCIDRs...) {
		if !p.IsValid() || !p.Addr().Is4() || p != p.Masked() {
			fault("range %s is not an IPv4 network prefix", p)
		}
	}
	for _, p := range c.ClusterCIDRs {
		if p.Contains(c.NodeIP) {
			fault("node address %s is within the pod range %s: choose another range for pods", c.NodeIP, p)
		}
		for _, s := range c.ServiceCIDRs {
			if p.Overlaps(s) {
				fault("pod range %s overlaps the Service range %s: choose another for one of them", p, s)
			}
		}
	}
	for _, s := range c.ServiceCIDRs {
		if s.Contains(c.NodeIP) {
			fault("node address %s is within the Service range %s: choose another range for Services", c.NodeIP, s)
		}
	}
	if c.MTU != 0 && (c.MTU < 576 || c.MTU > 65535) {
		fault("MTU %d is not between 576 and 65535", c.MTU)
	}
	switch c.Encapsulation {
	case EncapsulationAuto, EncapsulationAlways, EncapsulationNever:
	default:
		fault("encapsulation %q is neither \"vxlan\" nor \"none\"", c.Encapsulation)
	}
	return errors.Join(faults...)
}

func clusterHash(cluster string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(cluster))
	return h.Sum32()
}

// InterfacePrefix is what the names of all host interfaces of a cluster begin
// with: six characters, which leave eight for an address within the kernel's
// fifteen.
func InterfacePrefix(cluster string) string {
	return fmt.Sprintf("sg%04x", clusterHash(cluster)&0xffff)
}

// TableName is the name of the cluster's nftables table for pod traffic.
func TableName(cluster string) string { return "sagong-pod-" + cluster }

// Addresses are what a pod got.
type Addresses struct {
	// IPs holds one address a family, the primary first.
	IPs []netip.Addr
	// HostInterface is the name of the node's end of the pod's interface.
	HostInterface string
	// MTU of the pod's interface in bytes.
	MTU int
}

// Attachment is a pod that holds addresses.
type Attachment struct {
	Key string
	Addresses
}

// Peer is another node of the cluster.
type Peer struct {
	Name     string
	NodeIP   netip.Addr
	PodCIDRs []netip.Prefix
}

// Attacher is the part of Network that a runtime needs; it is declared here to
// document the contract, and users declare their own.
//
// Attach is idempotent: the same key in the same namespace gets the same
// addresses, whether or not the interface was already there. Detach of an
// unknown key is not an error.
type Attacher interface {
	Attach(ctx context.Context, key, netnsPath string) (Addresses, error)
	Detach(ctx context.Context, key string) error
}
