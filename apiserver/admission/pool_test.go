package admission

import (
	"net/netip"
	"testing"
)

// https://kubernetes.io/docs/reference/networking/virtual-ips/#service-ip-static-sub-range
func TestLowBand(t *testing.T) {
	for _, x := range []struct{ size, step, most, want int }{
		{16, 16, 256, 0}, {17, 16, 256, 16}, {254, 16, 256, 16}, {4094, 16, 256, 255}, {65534, 16, 256, 256},
		{2768, 32, 128, 86}, {30000, 32, 128, 128}, {10, 32, 128, 0},
	} {
		if got := lowBand(x.size, x.step, x.most); got != x.want {
			t.Errorf("of %d by %d: %d, want %d", x.size, x.step, got, x.want)
		}
	}
}

func TestEveryAddressOfTheRangeIsGivenOnceAndNoneBeside(t *testing.T) {
	p := newAddressPool(netip.MustParsePrefix("10.0.0.128/28"))
	for _, outside := range []string{"10.0.0.128", "10.0.0.143", "10.0.0.127", "10.0.0.144"} {
		if p.take(netip.MustParseAddr(outside)) == "" {
			t.Errorf("%s was given", outside)
		}
	}
	seen := map[netip.Addr]bool{}
	for range 14 {
		a, ok := p.any()
		if !ok || seen[a] || !p.in(a) {
			t.Fatalf("%v %v", a, ok)
		}
		seen[a] = true
	}
	if a, ok := p.any(); ok {
		t.Errorf("a 15th address: %v", a)
	}
	p.count(netip.MustParseAddr("10.0.0.130"), -1)
	if p.take(netip.MustParseAddr("10.0.0.130")) != "" {
		t.Error("an address given back cannot be had")
	}
}
