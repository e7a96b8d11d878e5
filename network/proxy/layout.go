package proxy

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
	"sagong/lib/nft"
)

// layoutVersion changes whenever chains or sets do: an older table is then
// replaced, in one step, when the proxy starts. dataVersion changes only when
// elements mean something else than before: what an older table holds is then
// of no use.
const (
	layoutVersion = 5
	dataVersion   = 4
)

// layout is what the chains depend on. Two proxies with equal layouts make
// equal chains.
type layout struct {
	tag          uint32
	nodeIP       netip.Addr
	clusterCIDRs []netip.Prefix
	serviceCIDRs []netip.Prefix
	served       []netip.Addr
	// podPrefix begins the names of pods' interfaces; tunnel is the one that
	// leads to other nodes, which has an address of its own.
	podPrefix, tunnel string
}

// text is kept with the table: the next process recognises its own chains by it.
func (l layout) text() string {
	h := fnv.New64a()
	fmt.Fprint(h, layoutVersion, l.nodeIP, l.clusterCIDRs, l.serviceCIDRs, l.served, l.podPrefix, l.tunnel)
	return fmt.Sprintf("sagong proxy tag=%d data=%d layout=%016x", l.tag, dataVersion, h.Sum64())
}

// parseText reads a table's tag and the version of its data from its text;
// zeros when it has none.
func parseText(text []byte) (tag, data uint32) {
	if _, err := fmt.Sscanf(string(text), "sagong proxy tag=%d data=%d ", &tag, &data); err != nil || tag > 15 {
		return 0, 0
	}
	return tag, data
}

const (
	mapClasses  = "disp"
	mapAffinity = "aff"
	// affinityLimit bounds the clients that are remembered: they come from outside.
	affinityLimit = 1 << 20
)

// create adds the table with everything but elements to b.
func (l layout) create(b *nft.Batch) {
	b.AddTable([]byte(l.text()))
	for _, s := range setLayouts {
		b.AddSet(s)
	}
	b.AddSet(nft.Set{Name: mapClasses, Key: nft.Mark, Data: nft.Verdict})
	b.AddSet(nft.Set{
		Name: mapAffinity, Key: nft.Concat(nft.Addr4, nft.Mark), Data: nft.Mark,
		Dynamic: true, Timeout: true, Size: affinityLimit,
	})
	for _, name := range []string{"services", "local", "dispatch", "special", "cluster", "none", "silent", "masquerade", "refuse", "reject"} {
		b.AddChain(name, nil)
	}
	for _, h := range []struct {
		name, typ string
		hook      uint32
		priority  int32
	}{
		{"raw-prerouting", "filter", unix.NF_INET_PRE_ROUTING, -300},
		{"raw-output", "filter", unix.NF_INET_LOCAL_OUT, -300},
		{"nat-prerouting", "nat", unix.NF_INET_PRE_ROUTING, -100},
		{"nat-output", "nat", unix.NF_INET_LOCAL_OUT, -100},
		{"nat-postrouting", "nat", unix.NF_INET_POST_ROUTING, 99},
		{"filter-forward", "filter", unix.NF_INET_FORWARD, 0},
		{"filter-input", "filter", unix.NF_INET_LOCAL_IN, 0},
		{"filter-output", "filter", unix.NF_INET_LOCAL_OUT, 0},
	} {
		b.AddChain(h.name, &nft.Hook{Type: h.typ, Number: h.hook, Priority: h.priority})
	}
	l.raw(b)
	l.services(b)
	l.postrouting(b)
	l.filter(b)
}

// raw guards loopback, which NodePorts on 127.0.0.1 open to routing, and keeps
// DNS out of connection tracking: each question would cost an entry.
func (l layout) raw(b *nft.Batch) {
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	lo := make([]byte, unix.IFNAMSIZ)
	copy(lo, "lo")
	for _, load := range []func(nft.Reg) nft.Expr{nft.LoadDestination, nft.LoadSource} {
		b.AddRule("raw-prerouting", join(
			[]nft.Expr{nft.Meta(0, unix.NFT_META_IIFNAME), nft.NotEqual(0, lo...)},
			inRange(load, loopback), []nft.Expr{nft.Drop()})...)
	}
	for _, a := range l.served {
		for _, chain := range []string{"raw-prerouting", "raw-output"} {
			for _, way := range []struct {
				load   func(nft.Reg) nft.Expr
				offset uint32
			}{{nft.LoadDestination, 2}, {nft.LoadSource, 0}} {
				b.AddRule(chain, way.load(0), nft.Equal(0, a.AsSlice()...),
					nft.LoadProtocol(0), nft.Equal(0, unix.IPPROTO_UDP),
					nft.Load(0, unix.NFT_PAYLOAD_TRANSPORT_HEADER, way.offset, 2), nft.Equal(0, 0, 53),
					nft.Untrack())
			}
		}
	}
}

// services finds where a new connection leads. Registers 0 to 2 hold the key,
// 4 the mark.
//
// Where one map's value is looked up in another, it passes through the packet's
// priority, which each chain clears in the end; only first packets come here,
// and forwarded ones get their priority later. nft 1.0 aborts on a rule where one
// look-up follows directly upon another, and it reads all tables whatever it is
// asked: so would everything that uses it, because of this table.
func (l layout) services(b *nft.Batch) {
	b.AddRule("nat-prerouting", nft.Jump("services"))
	b.AddRule("nat-output", nft.Jump("services"))
	b.AddRule("services",
		nft.LoadDestination(0), nft.LoadProtocol(1), nft.LoadPort(2), nft.LookupMap("svc", 0, 4),
		nft.SetMark(4), nft.Goto("dispatch"))
	b.AddRule("services", nft.DestinationType(0), nft.Equal(0, nft.Native32(unix.RTN_LOCAL)...), nft.Goto("local"))
	b.AddRule("local",
		nft.LoadProtocol(0), nft.LoadPort(1), nft.LookupMap("np", 0, 4),
		nft.SetMark(4), nft.Goto("dispatch"))

	b.AddRule("dispatch",
		nft.LoadMark(0), nft.Mask(0, localOnly|filtered), nft.NotEqual(0, nft.Native32(0)...), nft.Jump("special"))
	b.AddRule("dispatch",
		nft.LoadMark(0), nft.Mask(0, idMask), nft.LookupMap("cnt", 0, 1), nft.SetPriority(1))
	b.AddRule("dispatch", nft.LoadPriority(0), nft.LookupGoto(mapClasses, 0))
	// Older kernels miss an element that is being replaced: the client asks again.
	b.AddRule("dispatch", nft.Drop())

	b.AddRule("special",
		nft.LoadMark(0), nft.Mask(0, filtered), nft.NotEqual(0, nft.Native32(0)...),
		nft.LoadMark(0), nft.Mask(0, idMask), nft.LoadSource(1), nft.LookupMissing("ranges", 0), nft.Drop())
	isLocalOnly := []nft.Expr{nft.LoadMark(0), nft.Mask(0, localOnly), nft.Equal(0, nft.Native32(localOnly)...)}
	for _, c := range l.clusterCIDRs {
		b.AddRule("special", join(isLocalOnly, inRange(nft.LoadSource, c), []nft.Expr{nft.Goto("cluster")})...)
	}
	b.AddRule("special", join(isLocalOnly, []nft.Expr{
		nft.SourceType(0), nft.Equal(0, nft.Native32(unix.RTN_LOCAL)...), nft.Goto("cluster"),
	})...)
	b.AddRule("cluster", nft.LoadMark(0), nft.Mask(0, idMask), nft.LookupMap("all", 0, 1), nft.SetMark(1))

	b.AddRule("none", clearPriority()...)
	b.AddRule("none", nft.LoadMark(0), nft.Set32(0, rejected), nft.SetMark(0))
	b.AddRule("silent", nft.Drop())
	addClass(b, classReject, "none")
	addClass(b, classDrop, "silent")
}

func addClass(b *nft.Batch, c class, chain string) {
	b.AddElement(mapClasses, nft.Element{Key: nft.Native32(uint32(c)), Goto: chain})
}

// chain is the name of the class's chain.
func (c class) chain() string {
	switch {
	case c == classReject:
		return "none"
	case c == classDrop:
		return "silent"
	case c.affinity() > 0:
		return fmt.Sprintf("a%d-%ds", c.backends(), c.affinity())
	}
	return fmt.Sprintf("n%d", c.backends())
}

// clearPriority sets the packet's priority back; it uses register 3.
func clearPriority() []nft.Expr {
	return []nft.Expr{nft.Immediate(3, nft.Native32(0)...), nft.SetPriority(3)}
}

// createClass adds the chain that chooses among a class's number of backends.
// In all of them register 0 holds the client, 1 the pool, 2 an index or a
// handle, and 4 and 5 get the backend.
func createClass(b *nft.Batch, c class) {
	if c == classReject || c == classDrop {
		return
	}
	name := c.chain()
	b.AddChain(name, nil)
	pool := []nft.Expr{nft.LoadMark(1), nft.Mask(1, idMask)}
	random := join(pool, []nft.Expr{nft.Random(2, c.backends())})
	first := join(pool, []nft.Expr{nft.Immediate(2, nft.Native32(0)...)})
	toBackend := []nft.Expr{nft.DNAT(nft.IPv4, 4, 5)}
	// It holds the class, which must not be taken for a handle either.
	b.AddRule(name, clearPriority()...)
	endpoint := []nft.Expr{nft.LookupMap("ep", 1, 4)}
	if c.affinity() == 0 {
		b.AddRule(name, join(random, endpoint, toBackend)...)
	} else {
		timeout := uint64(c.affinity()) * 1000
		client := join([]nft.Expr{nft.LoadSource(0)}, pool)
		live := []nft.Expr{nft.LoadPriority(2), nft.LookupMap("live", 2, 4)}
		// A handle that is remembered counts only as long as its backend lives.
		b.AddRule(name, join(client, []nft.Expr{nft.LookupMap(mapAffinity, 0, 2), nft.SetPriority(2)})...)
		b.AddRule(name, join(client, live, []nft.Expr{nft.Update(mapAffinity, 0, 2, timeout)}, clearPriority(), toBackend)...)
		b.AddRule(name, join(random, []nft.Expr{nft.LookupMap("eph", 1, 2), nft.SetPriority(2)})...)
		// An update keeps an old element's value: delete it first. When nobody
		// more can be remembered, the next rule goes on without.
		b.AddRule(name, join(client, live, []nft.Expr{
			nft.Delete(mapAffinity, 0, 2), nft.Update(mapAffinity, 0, 2, timeout),
		}, clearPriority(), toBackend)...)
		b.AddRule(name, join(live, clearPriority(), toBackend)...)
	}
	// While a change sweeps by, the index may be one too high, or a handle just
	// gone: the first backend is there in any case. What finds none even so is
	// dropped, and the client asks again.
	b.AddRule(name, join(first, endpoint, clearPriority(), toBackend)...)
	b.AddRule(name, nft.Drop())
	addClass(b, c, name)
}

// postrouting rewrites the source where the answer would otherwise miss this
// node, or the pod would answer itself.
func (l layout) postrouting(b *nft.Batch) {
	ours := func(flags uint32) []nft.Expr {
		return []nft.Expr{nft.LoadMark(0), nft.Mask(0, tagMask|flags), nft.Equal(0, nft.Native32(l.tag<<tagShift|flags)...)}
	}
	masquerade := []nft.Expr{nft.Goto("masquerade")}
	b.AddRule("nat-postrouting", join(ours(masqueraded), masquerade)...)
	b.AddRule("nat-postrouting", join(ours(0), []nft.Expr{nft.LoadSource(0), nft.LoadDestination(1), nft.Lookup("hairpin", 0)}, masquerade)...)
	b.AddRule("nat-postrouting", join(ours(0), inRange(nft.LoadSource, netip.MustParsePrefix("127.0.0.0/8")), masquerade)...)
	outside := ours(masqueradeOutside)
	for _, c := range l.clusterCIDRs {
		outside = join(outside, notInRange(nft.LoadSource, c))
	}
	b.AddRule("nat-postrouting", join(outside, []nft.Expr{
		nft.SourceType(0), nft.NotEqual(0, nft.Native32(unix.RTN_LOCAL)...),
	}, masquerade)...)
	tunnel := make([]byte, unix.IFNAMSIZ)
	copy(tunnel, l.tunnel)
	b.AddRule("masquerade", nft.Meta(0, unix.NFT_META_OIFNAME), nft.Equal(0, tunnel...), nft.Masquerade())
	// Pods' interfaces have no address of their own on this side.
	b.AddRule("masquerade",
		nft.Meta(0, unix.NFT_META_OIFNAME), nft.Equal(0, []byte(l.podPrefix)...),
		nft.Immediate(0, l.nodeIP.AsSlice()...), nft.SNAT(nft.IPv4, 0))
	b.AddRule("masquerade", nft.Masquerade())
}

// filter refuses what leads nowhere, so that clients need not wait.
func (l layout) filter(b *nft.Batch) {
	isNew := []nft.Expr{nft.LoadState(0), nft.Mask(0, nft.StateNew), nft.Equal(0, nft.Native32(nft.StateNew)...)}
	for _, c := range l.clusterCIDRs {
		// An answer that tracking cannot place would show the pod's address to
		// a client that never heard of it.
		b.AddRule("filter-forward", join(
			[]nft.Expr{nft.LoadState(0), nft.Mask(0, nft.StateInvalid), nft.Equal(0, nft.Native32(nft.StateInvalid)...)},
			inRange(nft.LoadSource, c), []nft.Expr{nft.Drop()})...)
	}
	for _, chain := range []string{"filter-forward", "filter-input", "filter-output"} {
		b.AddRule(chain, join(isNew, []nft.Expr{nft.Jump("refuse")})...)
	}
	b.AddRule("refuse", nft.LoadMark(0), nft.Mask(0, tagMask|rejected),
		nft.Equal(0, nft.Native32(l.tag<<tagShift|rejected)...), nft.Goto("reject"))
	for _, a := range l.served {
		b.AddRule("refuse", nft.LoadDestination(0), nft.Equal(0, a.AsSlice()...), nft.Return())
	}
	// A port that a Service does not have.
	b.AddRule("refuse", nft.LoadDestination(0), nft.Lookup("ips", 0), nft.Goto("reject"))
	// An address that no Service has (yet): silence, and the client tries again.
	for _, c := range l.serviceCIDRs {
		b.AddRule("refuse", join(inRange(nft.LoadDestination, c), []nft.Expr{nft.Drop()})...)
	}
	b.AddRule("reject", nft.LoadProtocol(0), nft.Equal(0, unix.IPPROTO_TCP), nft.RejectTCP())
	b.AddRule("reject", nft.RejectPort())
}

// inRange goes on when the address that load reads is within p.
func inRange(load func(nft.Reg) nft.Expr, p netip.Prefix) []nft.Expr {
	return []nft.Expr{load(0), maskBits(p), nft.Equal(0, p.Addr().AsSlice()...)}
}

func notInRange(load func(nft.Reg) nft.Expr, p netip.Prefix) []nft.Expr {
	return []nft.Expr{load(0), maskBits(p), nft.NotEqual(0, p.Addr().AsSlice()...)}
}

func maskBits(p netip.Prefix) nft.Expr {
	return nft.And(0, 0, binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits())), make([]byte, 4))
}

func join(parts ...[]nft.Expr) []nft.Expr { return slices.Concat(parts...) }
