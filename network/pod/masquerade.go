package pod

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
	"sagong/lib/nft"
)

// masquerade makes pods' traffic to the world outside of the cluster come from
// the node, and the node's traffic into the tunnel from its address within the
// pod range: the way back then leads through the tunnel as well. The table is
// replaced in one step, so that no packet meets a gap.
func (n *Network) masquerade() error {
	b := nft.NewBatch(nft.IPv4, TableName(n.cfg.Cluster))
	b.AddTable(nil)
	b.DeleteTable()
	b.AddTable(nil)
	b.AddChain("egress", nil)
	b.AddChain("tunnel", nil)
	b.AddChain("postrouting", &nft.Hook{Type: "nat", Number: unix.NF_INET_POST_ROUTING, Priority: 100})

	b.AddRule("postrouting", append(outInterface(TunnelInterface(n.cfg.Cluster)), nft.Goto("tunnel"))...)
	for _, c := range n.cfg.ClusterCIDRs {
		b.AddRule("postrouting", append(inRange(nft.LoadSource(0), c), nft.Goto("egress"))...)
		b.AddRule("egress", append(inRange(nft.LoadDestination(0), c), nft.Return())...)
		b.AddRule("tunnel", append(inRange(nft.LoadSource(0), c), nft.Return())...)
	}
	b.AddRule("egress", append(inRange(nft.LoadDestination(0), multicast), nft.Return())...)
	b.AddRule("egress", nft.Masquerade())
	b.AddRule("tunnel", nft.Masquerade())

	return n.nft.Apply(b)
}

var multicast = netip.PrefixFrom(netip.AddrFrom4([4]byte{224, 0, 0, 0}), 4)

// inRange goes on when the address that load reads into register 0 is within p.
func inRange(load nft.Expr, p netip.Prefix) []nft.Expr {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits()))
	return []nft.Expr{load, nft.And(0, 0, mask, make([]byte, 4)), nft.Equal(0, p.Addr().AsSlice()...)}
}

// outInterface goes on when the packet leaves by the interface called name.
func outInterface(name string) []nft.Expr {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []nft.Expr{nft.Meta(0, unix.NFT_META_OIFNAME), nft.Equal(0, padded...)}
}

// outPrefix goes on when the name of the interface that the packet leaves by
// does not begin with prefix.
func notOutPrefix(prefix string) []nft.Expr {
	return []nft.Expr{nft.Meta(0, unix.NFT_META_OIFNAME), nft.NotEqual(0, []byte(prefix)...)}
}
