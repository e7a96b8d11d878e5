package dns

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

// Whatever order owners add and withdraw names in, readers see what the last
// words of all of them amount to.
func TestIndexIncrementalEqualsFromScratch(t *testing.T) {
	random := func(r *rand.Rand) map[string]contribution {
		out := map[string]contribution{}
		for range r.IntN(5) {
			var c contribution
			switch r.IntN(4) {
			case 0:
				for range 1 + r.IntN(3) {
					c.addrs = append(c.addrs, netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(4))}))
				}
			case 1:
				c.ptr = fmt.Sprint("target", r.IntN(3))
			case 2:
				c.srv = []service{{target: fmt.Sprint("target", r.IntN(3)), port: uint16(r.IntN(2))}}
			}
			out[fmt.Sprint("name", r.IntN(6))] = c
		}
		return out
	}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		x := newIndex()
		last := map[string]map[string]contribution{}
		for range 60 {
			owner := fmt.Sprint("owner", r.IntN(5))
			last[owner] = random(r)
			x.set(owner, last[owner])
		}
		fresh := newIndex()
		owners := slices.Collect(maps.Keys(last))
		r.Shuffle(len(owners), func(i, j int) { owners[i], owners[j] = owners[j], owners[i] })
		for _, owner := range owners {
			fresh.set(owner, last[owner])
		}
		for i := range 6 {
			name := []byte(fmt.Sprint("name", i))
			if got, want := x.find(name), fresh.find(name); !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d: %s is %+v, want %+v", seed, name, got, want)
			}
		}
		for owner := range last {
			x.set(owner, nil)
		}
		if len(x.sources)+len(x.held)+len(x.owned) != 0 {
			t.Fatalf("seed %d: something is left of nothing: %v %v %v", seed, x.sources, x.held, x.owned)
		}
		for i := range 6 {
			if r := x.find([]byte(fmt.Sprint("name", i))); r != nil {
				t.Fatalf("seed %d: a withdrawn name is still there", seed)
			}
		}
	}
}
