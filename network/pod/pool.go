package pod

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// pool is the bitmap of one IPv4 range. It hands out addresses in turn, so that
// a released one is the last to come back.
type pool struct {
	cidr     netip.Prefix
	base     uint32
	size     uint32
	reserved uint32
	next     uint32
	words    []uint64
}

// overlayAddress is the address of the node itself within its podCIDR: the
// source of its own packets through a tunnel. Pods never get it.
func overlayAddress(cidr netip.Prefix) netip.Addr { return cidr.Addr().Next() }

func newPool(cidr netip.Prefix) *pool {
	a4 := cidr.Addr().As4()
	p := &pool{cidr: cidr, base: binary.BigEndian.Uint32(a4[:]), size: 1 << (32 - cidr.Bits())}
	p.words = make([]uint64, (p.size+63)/64)
	// Bits past the end of a small range are taken for ever.
	for i := p.size; i < uint32(len(p.words))*64; i++ {
		p.words[i/64] |= 1 << (i % 64)
	}
	// The network's and the broadcast address confuse programs; the first is the node's.
	for _, i := range []uint32{0, 1, p.size - 1} {
		p.words[i/64] |= 1 << (i % 64)
		p.reserved++
	}
	p.next = 2
	return p
}

func (p *pool) take() (netip.Addr, bool) {
	n := uint32(len(p.words))
	for step := uint32(0); step <= n; step++ {
		w := (p.next/64 + step) % n
		free := ^p.words[w]
		if step == 0 {
			free &= ^uint64(0) << (p.next % 64)
		}
		if free == 0 {
			continue
		}
		i := w*64 + uint32(bits.TrailingZeros64(free))
		p.words[w] |= 1 << (i % 64)
		p.next = (i + 1) % p.size
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], p.base+i)
		return netip.AddrFrom4(a), true
	}
	return netip.Addr{}, false
}

func (p *pool) set(a netip.Addr, used bool) {
	a4 := a.As4()
	i := binary.BigEndian.Uint32(a4[:]) - p.base
	if used {
		p.words[i/64] |= 1 << (i % 64)
		if i >= p.next {
			p.next = (i + 1) % p.size
		}
	} else {
		p.words[i/64] &^= 1 << (i % 64)
	}
}
