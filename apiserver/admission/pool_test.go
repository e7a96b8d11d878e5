package admission

import (
	"testing"
)

// https://kubernetes.io/docs/reference/networking/virtual-ips/#service-ip-static-sub-range
func TestLowBand(t *testing.T) {
	for _, x := range []struct{ size, step, most, want int }{
		{16, 16, 256, 0}, {17, 16, 256, 16}, {256, 16, 256, 16}, {4096, 16, 256, 256}, {65536, 16, 256, 256},
		{2768, 32, 128, 86}, {30000, 32, 128, 128}, {10, 32, 128, 0},
	} {
		if got := lowBand(x.size, x.step, x.most); got != x.want {
			t.Errorf("of %d by %d: %d, want %d", x.size, x.step, got, x.want)
		}
	}
}

func TestEveryPortOfTheRangeIsGivenOnceAndNoneBeside(t *testing.T) {
	p := newPortPool(100, 119)
	for _, outside := range []int32{99, 120} {
		if p.take(outside) == "" {
			t.Errorf("%d was given", outside)
		}
	}
	seen := map[int32]bool{}
	for n := range 20 {
		port, ok := p.any()
		if !ok || seen[port] || n < 4 && port < 116 || port > 119 || port < 100 {
			t.Fatalf("%d. %d %v", n, port, ok)
		}
		seen[port] = true
	}
	if port, ok := p.any(); ok {
		t.Errorf("a 21st port: %v", port)
	}
	p.count(107, -1)
	if p.take(107) != "" {
		t.Error("a port given back cannot be had")
	}
}
