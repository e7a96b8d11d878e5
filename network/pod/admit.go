package pod

import (
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
	"sagong/lib/nft"
)

// Firewalls that iptables rules make (Docker's and ufw's among them) drop what
// is forwarded unless told otherwise, and no rule of another table can undo
// that. admit puts rules for the cluster's pods before theirs, marked by a
// comment, and only where such a firewall is.

// filterTable is the table that iptables-nft makes.
const filterTable = "filter"

func podComment(cluster string) string { return "sagong pods of " + cluster }

func nodeComment(cluster string) string { return "sagong nodes of " + cluster }

// admit lets the traffic of ranges, and what arrives by the cluster's
// interfaces, through a host's firewall. It changes nothing where the rules are
// there already, or nothing is dropped; it reports whether it did.
func admit(conn *nft.Conn, cluster, comment string, ranges []netip.Prefix) (changed bool, err error) {
	chains, err := conn.Chains(nft.IPv4, filterTable)
	if err != nil {
		return false, err
	}
	b := nft.NewBatch(nft.IPv4, filterTable)
	for _, c := range chains {
		if !c.Base || !c.Drop || c.Name != "FORWARD" && c.Name != "INPUT" {
			continue
		}
		rules, err := conn.Rules(nft.IPv4, filterTable, c.Name)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(rules, func(r nft.Rule) bool { return r.Comment == comment }) {
			continue
		}
		if c.Name == "INPUT" {
			// What the node's own programs offer, such as DNS and the API.
			b.InsertRule(c.Name, comment, nft.Meta(0, unix.NFT_META_IIFNAME), nft.Equal(0, []byte(InterfacePrefix(cluster))...), nft.Counter(), nft.Accept())
			continue
		}
		for _, r := range ranges {
			b.InsertRule(c.Name, comment, append(inRange(nft.LoadSource(0), r), nft.Counter(), nft.Accept())...)
			b.InsertRule(c.Name, comment, append(inRange(nft.LoadDestination(0), r), nft.Counter(), nft.Accept())...)
		}
	}
	return !b.Empty(), conn.Apply(b)
}

// admit is admit for the pods of the network.
func (n *Network) admit() error {
	changed, err := admit(n.nft, n.cfg.Cluster, podComment(n.cfg.Cluster), n.cfg.ClusterCIDRs)
	if changed && err == nil {
		n.cfg.Log.Info("let pods through the host's firewall", "table", filterTable)
	}
	return err
}

// expel removes the rules that admit made.
func expel(conn *nft.Conn, comment string) error {
	b := nft.NewBatch(nft.IPv4, filterTable)
	for _, chain := range []string{"FORWARD", "INPUT"} {
		rules, err := conn.Rules(nft.IPv4, filterTable, chain)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		for _, r := range rules {
			if r.Comment == comment {
				b.DeleteRule(chain, r.Handle)
			}
		}
	}
	return conn.Apply(b)
}
