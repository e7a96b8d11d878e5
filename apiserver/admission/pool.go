package admission

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
)

// pool counts the holders of each value of a range and finds free ones. A value
// may be held twice for a moment, by a stored object and by the write that
// stored it; it is free when nobody holds it.
type pool[T comparable] struct {
	mu    sync.Mutex
	held  map[T]int
	size  int
	start int // random choices begin here, so that low values stay for those who ask
	at    func(i int) T
	in    func(T) bool
	out   string // what to say of a value outside
	busy  string // what to say of a value that is held
}

func newAddressPool(prefix netip.Prefix) *pool[netip.Addr] {
	prefix = prefix.Masked()
	base := prefix.Addr().As4()
	first := uint32(base[0])<<24 | uint32(base[1])<<16 | uint32(base[2])<<8 | uint32(base[3])
	// Neither the network's address nor the broadcast address.
	size := 1<<(32-prefix.Bits()) - 2
	return &pool[netip.Addr]{
		held: map[netip.Addr]int{}, size: size, start: lowBand(size, 16, 256),
		at: func(i int) netip.Addr {
			n := first + 1 + uint32(i)
			return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		},
		in: func(a netip.Addr) bool {
			if !prefix.Contains(a) {
				return false
			}
			b := a.As4()
			n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
			return n > first && int64(n-first) <= int64(size)
		},
		out:  fmt.Sprintf("the provided IP (%%v) is not in the valid range. The range of valid IPs is %s", prefix),
		busy: "provided IP is already allocated",
	}
}

func newPortPool(first, last int32) *pool[int32] {
	size := int(last-first) + 1
	return &pool[int32]{
		held: map[int32]int{}, size: size, start: lowBand(size, 32, 128),
		at:   func(i int) int32 { return first + int32(i) },
		in:   func(p int32) bool { return p >= first && p <= last },
		out:  fmt.Sprintf("provided port is not in the valid range. The range of valid ports is %d-%d", first, last),
		busy: "provided port is already allocated",
	}
}

// lowBand is how many of the first values are left for those who name theirs:
// one in step, between 16 and most, as upstream does.
func lowBand(size, step, most int) int {
	if size <= 16 {
		return 0
	}
	return min(max(16, size/step), most)
}

func (p *pool[T]) count(v T, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[v] += n; p.held[v] <= 0 {
		delete(p.held, v)
	}
}

// take holds a value that somebody named, or says why it cannot be had.
func (p *pool[T]) take(v T) (why string) {
	if !p.in(v) {
		if why = p.out; p.busy == "provided IP is already allocated" {
			why = fmt.Sprintf(p.out, v)
		}
		return why
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[v] > 0 {
		return p.busy
	}
	p.held[v]++
	return ""
}

// any holds a free value; false when there is none.
func (p *pool[T]) any() (T, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	scan := func(from, to int) (T, bool) {
		if n := to - from; n > 0 {
			off := rand.IntN(n)
			for i := range n {
				v := p.at(from + (off+i)%n)
				if p.held[v] == 0 {
					p.held[v]++
					return v, true
				}
			}
		}
		var none T
		return none, false
	}
	if v, ok := scan(p.start, p.size); ok {
		return v, true
	}
	return scan(0, p.start)
}
