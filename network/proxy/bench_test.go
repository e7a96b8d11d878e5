package proxy

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkEndpointChange measures one endpoint added or removed among many
// Services, until the kernel has it.
func BenchmarkEndpointChange(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := newCluster(b)
			texts := func(i, count int) []string {
				var t []string
				for e := range count {
					t = append(t, fmt.Sprintf("10.244.%d.%d", 1+(i*10+e)/250%200, (i*10+e)%250))
				}
				return t
			}
			for i := range n {
				s := newService(fmt.Sprintf("s%d", i), fmt.Sprintf("10.96.%d.%d", 1+i/250, i%250))
				s.Spec.Ports = s.Spec.Ports[:1]
				c.proxy.SetService(s)
				c.proxy.SetEndpointSlice(endpoints(s.Name, texts(i, 10)...))
			}
			start := time.Now()
			c.flush(b)
			scratch := time.Since(start)
			half := endpoints("s7", texts(7, 9)...)
			full := endpoints("s7", texts(7, 10)...)
			for i := 0; b.Loop(); i++ {
				if i%2 == 0 {
					c.proxy.SetEndpointSlice(half)
				} else {
					c.proxy.SetEndpointSlice(full)
				}
				if err := c.proxy.Flush(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(scratch.Microseconds())/1000, "ms-from-scratch")
		})
	}
}
