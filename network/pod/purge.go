package pod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"sagong/lib/netlink"
	"sagong/lib/nft"
)

// Purge removes everything that Open, Attach and SetPeers made in the kernel
// and on disk for the cluster, and puts kernel settings back unless another
// cluster on the machine needs them. Only Cluster and StateDir of cfg are read;
// no Network may be open.
func Purge(ctx context.Context, cfg Config) error {
	if cfg.Cluster == "" || cfg.StateDir == "" {
		return errors.New("cannot purge the pod network: the cluster's name or the state directory is missing")
	}
	if err := purge(cfg); err != nil {
		return fmt.Errorf("cannot purge the pod network: %w", err)
	}
	return nil
}

func purge(cfg Config) error {
	fp, err := readFootprint(cfg.StateDir)
	if err != nil {
		return err
	}
	nl, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()

	var b netlink.Builder
	b.DeleteGroup(linkGroup(cfg.Cluster))
	if l, err := nl.Link(TunnelInterface(cfg.Cluster)); err == nil {
		b.DeleteLink(l.Index)
	} else if !errors.Is(err, unix.ENODEV) {
		return err
	}
	routes, err := nl.Routes(routeProtocol)
	if err != nil {
		return err
	}
	ranges := slices.Concat(fp.PodCIDRs, fp.ClusterCIDRs, fp.ServiceCIDRs)
	for _, r := range routes {
		if within(ranges, r.Destination) {
			b.DeleteRoute(r)
		}
	}
	var errs []error
	for _, err := range nl.DoEach(&b) {
		// Routes go with their interface.
		if !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, err)
		}
	}
	alone, err := dropTable(TableName(cfg.Cluster))
	errs = append(errs, err, withoutRules(podComment(cfg.Cluster)))
	settings := netlink.NewSettings(filepath.Join(cfg.StateDir, "settings"))
	if alone {
		errs = append(errs, settings.Restore())
	}
	for _, name := range []string{"addresses", "addresses.new", "settings", "network.json", "network.json.new"} {
		if err := os.Remove(filepath.Join(cfg.StateDir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	// Others may keep files in the directory.
	_ = os.Remove(cfg.StateDir)
	return errors.Join(errs...)
}

// dropTable removes a table if it exists, and reports whether no other
// cluster's pod table is left.
func dropTable(name string) (alone bool, err error) {
	conn, err := nft.Open()
	if err != nil {
		return false, err
	}
	defer conn.Close()
	b := nft.NewBatch(nft.IPv4, name)
	b.AddTable(nil)
	b.DeleteTable()
	if err := conn.Apply(b); err != nil {
		return false, err
	}
	tables, err := conn.Tables()
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(tables, func(t nft.Table) bool {
		return strings.HasPrefix(t.Name, "sagong-pod-") || strings.HasPrefix(t.Name, "sagong-nodes-")
	}), nil
}

// withoutRules removes what admit put into a host's firewall.
func withoutRules(comment string) error {
	conn, err := nft.Open()
	if err != nil {
		return err
	}
	defer conn.Close()
	return expel(conn, comment)
}
