package admission

import (
	"fmt"
	"math/rand/v2"
	"sync"
)

// portPool counts the holders of each port of a range and finds free ones. A port
// may be held twice for a moment, by a stored object and by the write that stored
// it; it is free when nobody holds it.
type portPool struct {
	first, last int32
	start       int32 // random choices begin here, so that low ports stay for those who ask

	mu   sync.Mutex
	held map[int32]int
}

func newPortPool(first, last int32) *portPool {
	return &portPool{first: first, last: last, start: first + int32(lowBand(int(last-first)+1, 32, 128)), held: map[int32]int{}}
}

// lowBand is how many of the first values are left for those who name theirs:
// one in step, between 16 and most, as upstream does.
func lowBand(size, step, most int) int {
	if size <= 16 {
		return 0
	}
	return min(max(16, size/step), most)
}

func (p *portPool) count(port int32, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[port] += n; p.held[port] <= 0 {
		delete(p.held, port)
	}
}

// take holds a port that somebody named, or says why it cannot be had.
func (p *portPool) take(port int32) (why string) {
	if port < p.first || port > p.last {
		return fmt.Sprintf("provided port is not in the valid range. The range of valid ports is %d-%d", p.first, p.last)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[port] > 0 {
		return "provided port is already allocated"
	}
	p.held[port]++
	return ""
}

// any holds a free port; false when there is none.
func (p *portPool) any() (int32, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	scan := func(from, to int32) (int32, bool) {
		if n := to - from; n > 0 {
			off := rand.Int32N(n)
			for i := range n {
				if port := from + (off+i)%n; p.held[port] == 0 {
					p.held[port]++
					return port, true
				}
			}
		}
		return 0, false
	}
	if port, ok := scan(p.start, p.last+1); ok {
		return port, true
	}
	return scan(p.first, p.start)
}
