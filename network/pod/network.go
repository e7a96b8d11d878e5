// Package pod connects pods to the network of their node and of the cluster:
// one routed veth a pod, no bridge, addresses from the node's podCIDRs, routes
// or VXLAN to the other nodes.
package pod

import (
	"context"
	"errors"
)

// Network is the pod network of one node. All methods may be used concurrently.
type Network struct{ cfg Config }

// Open prepares the node (forwarding, routes, masquerading) and reads which
// pods hold addresses. It changes nothing for pods that are already attached.
func Open(ctx context.Context, cfg Config) (*Network, error) {
	cfg = cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Network{cfg: cfg}, nil
}

// Attach gives the pod called key an address and, in the network namespace at
// netnsPath, an interface eth0 with it.
func (n *Network) Attach(ctx context.Context, key, netnsPath string) (Addresses, error) {
	return Addresses{}, errors.ErrUnsupported
}

// Detach releases the addresses of the pod called key. The interface goes with
// the pod's network namespace, which the caller unmounts: the kernel then
// reclaims it in the background, where an explicit delete costs 16 ms.
func (n *Network) Detach(ctx context.Context, key string) error { return errors.ErrUnsupported }

// List returns the pods that hold addresses, sorted by key.
func (n *Network) List() []Attachment { return nil }

// Retain releases the addresses and removes the interfaces of every pod that is
// not among keys: what a crash between two steps left behind.
func (n *Network) Retain(ctx context.Context, keys []string) error { return errors.ErrUnsupported }

// SetPeers makes the pods of exactly these other nodes reachable.
func (n *Network) SetPeers(ctx context.Context, peers []Peer) error { return errors.ErrUnsupported }

// Close frees what the process holds; pods stay connected.
func (n *Network) Close() error { return nil }

// Purge removes everything that Open, Attach and SetPeers made in the kernel
// and on disk for the cluster, whether or not a Network is open.
func Purge(ctx context.Context, cfg Config) error { return errors.ErrUnsupported }
