package pod

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
	"sagong/lib/netlink"
	"sagong/lib/nft"
)

// repairInterval is how often what other programs may have removed is looked
// for. To be told of every change of nftables instead would have the kernel
// copy each of the proxy's changes back.
const repairInterval = 30 * time.Second

// keep repairs the node's part of the network until ctx ends: at once when the
// uplink comes up again, for the kernel drops routes with their link, and now
// and then what firewalls may have flushed.
func (n *Network) keep(ctx context.Context) {
	up := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.watchUplink(up)
	}()
	defer func() {
		n.links.Close()
		<-done
	}()
	tick := time.NewTicker(repairInterval)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-up:
			n.cfg.Log.Info("the uplink is up again, restoring routes", "interface", n.uplink.Name)
			err = errors.Join(n.setBaseRoutes(), n.restorePeers(ctx))
		case <-tick.C:
			err = n.repair()
		}
		if err != nil {
			n.cfg.Log.Error("cannot repair the pod network", "err", err)
		}
	}
}

// watchUplink reports when the uplink comes up.
func (n *Network) watchUplink(up chan<- struct{}) {
	was := n.uplink.Up
	report := func() {
		select {
		case up <- struct{}{}:
		default:
		}
	}
	for {
		err := n.links.Next(func(m netlink.Message) error {
			if m.Type != unix.RTM_NEWLINK {
				return nil
			}
			l, err := netlink.ParseLink(m)
			if err != nil || l.Index != n.uplink.Index {
				return err
			}
			if l.Up && !was {
				report()
			}
			was = l.Up
			return nil
		})
		switch {
		case errors.Is(err, netlink.ErrMissed):
			report()
		case err != nil:
			return
		}
	}
}

// repair makes again what other programs removed.
func (n *Network) repair() error {
	errs := []error{n.admit()}
	chains, err := n.nft.Chains(nft.IPv4, TableName(n.cfg.Cluster))
	if errors.Is(err, unix.ENOENT) || err == nil && len(chains) == 0 {
		n.cfg.Log.Warn("the table for pods was removed, making it again", "table", TableName(n.cfg.Cluster))
		err = n.masquerade()
	}
	return errors.Join(append(errs, err)...)
}

// restorePeers sets the last peers again.
func (n *Network) restorePeers(ctx context.Context) error {
	n.peers.Lock()
	last := n.lastPeers
	n.peers.Unlock()
	return n.SetPeers(ctx, last)
}
