package dns

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"

	miekg "github.com/miekg/dns"

	"sagong/lib/netlink/nettest"
)

// BenchmarkSockets measures questions through the kernel, with the clients on
// the same cores.
func BenchmarkSockets(b *testing.B) {
	host := nettest.New(b, "host")
	var s *Server
	host.Do(b, func() (err error) {
		s, err = Open(context.Background(), Config{Addresses: []netip.Addr{dnsAddress}, Upstreams: []netip.AddrPort{}})
		return err
	})
	defer s.Close()
	fill(s)
	s.Start()
	query, err := new(miekg.Msg).SetQuestion("hello.demo.svc.cluster.local.", miekg.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	const clients, window = 8, 32
	var conns []net.Conn
	for range clients {
		c, err := host.Dial("udp", "10.96.0.10:53", 0)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	b.ResetTimer()
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() {
			buf := make([]byte, 512)
			for n := b.N / clients; n > 0; n -= window {
				for range window {
					if _, err := c.Write(query); err != nil {
						b.Error(err)
						return
					}
				}
				for range window {
					if _, err := c.Read(buf); err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "questions/s")
}
