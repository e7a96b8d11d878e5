package proxy

import (
	"encoding/binary"
	"net/netip"

	"sagong/lib/nft"
)

// set numbers the sets and maps of the table.
type set uint8

// The sets and maps, as the design names them.
const (
	setServices  set = iota // svc: address . protocol . port -> pool and flags
	setPorts                // np: protocol . port -> pool and flags, for every address of the node
	setCounts               // cnt: pool -> class
	setEndpoints            // ep: pool . index -> address . port
	setHandles              // eph: pool . index -> handle, for pools with affinity
	setLive                 // live: handle -> address . port
	setHairpin              // hairpin: source . destination of a pod that reaches itself
	setAddresses            // ips: addresses of Services
	setAll                  // all: pool of this node's endpoints -> pool of all endpoints
	setRanges               // ranges: pool . source range, for filtered entries
	setCount
)

// setLayouts describes the plain-data sets to the kernel, by number.
var setLayouts = [setCount]nft.Set{
	setServices:  {Name: "svc", Key: nft.Concat(nft.Addr4, nft.Protocol, nft.Port), Data: nft.Mark},
	setPorts:     {Name: "np", Key: nft.Concat(nft.Protocol, nft.Port), Data: nft.Mark},
	setCounts:    {Name: "cnt", Key: nft.Mark, Data: nft.Mark},
	setEndpoints: {Name: "ep", Key: nft.Concat(nft.Mark, nft.Mark), Data: nft.Concat(nft.Addr4, nft.Port)},
	setHandles:   {Name: "eph", Key: nft.Concat(nft.Mark, nft.Mark), Data: nft.Mark},
	setLive:      {Name: "live", Key: nft.Mark, Data: nft.Concat(nft.Addr4, nft.Port)},
	setHairpin:   {Name: "hairpin", Key: nft.Concat(nft.Addr4, nft.Addr4)},
	setAddresses: {Name: "ips", Key: nft.Addr4},
	setAll:       {Name: "all", Key: nft.Mark, Data: nft.Mark},
	setRanges:    {Name: "ranges", Key: nft.Concat(nft.Mark, nft.Addr4), Interval: true},
}

// keyLengths and dataLengths are in bytes, as registers hold them.
var (
	keyLengths  = [setCount]int{12, 8, 4, 8, 8, 4, 8, 4, 4, 8}
	dataLengths = [setCount]int{4, 4, 4, 8, 4, 8, 0, 0, 4, 0}
)

// elementKey is an element's identity in fixed size: its set, and its key
// padded with zeros. For a range the key is pool, first and last address.
type elementKey struct {
	set set
	key [12]byte
}

// elementData is what a map's key leads to, padded with zeros.
type elementData [8]byte

func (k elementKey) element(d elementData) nft.Element {
	e := nft.Element{Key: k.key[:keyLengths[k.set]]}
	if k.set == setRanges {
		e.KeyEnd = append(append([]byte(nil), k.key[:4]...), k.key[8:12]...)
	}
	if n := dataLengths[k.set]; n > 0 {
		e.Data = d[:n]
	}
	return e
}

// parseElement is the reverse of element.
func parseElement(s set, d nft.Dumped) (elementKey, elementData, bool) {
	k := elementKey{set: s}
	var v elementData
	if len(d.Key) != keyLengths[s] || len(d.Data) != dataLengths[s] {
		return k, v, false
	}
	copy(k.key[:], d.Key)
	copy(v[:], d.Data)
	if s == setRanges {
		if len(d.KeyEnd) != 8 {
			return k, v, false
		}
		copy(k.key[8:], d.KeyEnd[4:])
	}
	return k, v, true
}

func putAddr(p []byte, a netip.Addr) {
	a4 := a.As4()
	copy(p, a4[:])
}

// frontElement is the entry for an address, in svc or np.
func frontElement(f frontKey) elementKey {
	if !f.addr.IsValid() {
		k := elementKey{set: setPorts}
		k.key[0] = f.proto
		binary.BigEndian.PutUint16(k.key[4:], f.port)
		return k
	}
	k := elementKey{set: setServices}
	putAddr(k.key[:], f.addr)
	k.key[4] = f.proto
	binary.BigEndian.PutUint16(k.key[8:], f.port)
	return k
}

// parseFront is the reverse of frontElement.
func parseFront(k elementKey) frontKey {
	if k.set == setPorts {
		return frontKey{proto: k.key[0], port: binary.BigEndian.Uint16(k.key[4:])}
	}
	return frontKey{netip.AddrFrom4([4]byte(k.key[:4])), k.key[4], binary.BigEndian.Uint16(k.key[8:])}
}

func idElement(s set, id uint32) elementKey {
	k := elementKey{set: s}
	binary.NativeEndian.PutUint32(k.key[:], id)
	return k
}

func indexElement(s set, id, index uint32) elementKey {
	k := idElement(s, id)
	binary.NativeEndian.PutUint32(k.key[4:], index)
	return k
}

func hairpinElement(a netip.Addr) elementKey {
	k := elementKey{set: setHairpin}
	putAddr(k.key[:], a)
	putAddr(k.key[4:], a)
	return k
}

func addressElement(a netip.Addr) elementKey {
	k := elementKey{set: setAddresses}
	putAddr(k.key[:], a)
	return k
}

func rangeElement(id uint32, r netip.Prefix) elementKey {
	k := idElement(setRanges, id)
	putAddr(k.key[4:], r.Addr())
	first := r.Addr().As4()
	last := binary.BigEndian.Uint32(first[:]) | ^uint32(0)>>r.Bits()
	binary.BigEndian.PutUint32(k.key[8:], last)
	return k
}

func number(v uint32) (d elementData) {
	binary.NativeEndian.PutUint32(d[:], v)
	return d
}

func (d elementData) number() uint32 { return binary.NativeEndian.Uint32(d[:]) }

func backendData(b netip.AddrPort) (d elementData) {
	putAddr(d[:], b.Addr())
	binary.BigEndian.PutUint16(d[4:], b.Port())
	return d
}

func (d elementData) backend() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(d[:4])), binary.BigEndian.Uint16(d[4:]))
}

// A handle stands for one backend of one pool as long as it is there; affinity
// remembers it.
const handleMask = 1<<32 - 1

// A class says how a pool chooses: the number of backends, and the seconds of
// affinity above it. Without backends it says what happens instead. No class is
// zero: that is what a packet has which looks for its class in the middle of a
// change, and it must not be refused for that.
type class uint32

const (
	classReject class = 1 << 31
	classDrop   class = 1<<31 | 1<<backendBits
)

func classOf(n int, affinity uint32, drop bool) class {
	switch {
	case n > 0:
		return class(affinity<<backendBits | uint32(n))
	case drop:
		return classDrop
	}
	return classReject
}

func (c class) backends() uint32 { return uint32(c) & maxBackends }
func (c class) affinity() uint32 {
	if c.backends() == 0 {
		return 0
	}
	return uint32(c) >> backendBits
}
