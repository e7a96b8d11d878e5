package proxy

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
)

// While endpoints come and go all the time, every connection is made, and at
// once: a lost first packet would show as a second of delay.
func TestNoConnectionFailsWhileEndpointsChange(t *testing.T) {
	for _, kind := range []string{"spread", "affinity"} {
		t.Run(kind, func(t *testing.T) {
			c := newCluster(t)
			client, _ := c.pod(t, "client")
			var ips []string
			for _, name := range []string{"a", "b", "c", "d"} {
				_, ip := c.pod(t, name)
				ips = append(ips, ip)
			}
			s := newService("web", "10.96.0.100")
			s.Spec.Ports = s.Spec.Ports[:1]
			if kind == "affinity" {
				affinity(60)(s)
			}
			c.proxy.SetService(s)
			c.proxy.SetEndpointSlice(endpoints("web", ips...))
			c.flush(t)
			var stop atomic.Bool
			done := make(chan int, 1)
			go func() {
				r := rand.New(rand.NewPCG(1, 2))
				changes := 0
				for !stop.Load() {
					r.Shuffle(len(ips), func(i, j int) { ips[i], ips[j] = ips[j], ips[i] })
					c.proxy.SetEndpointSlice(endpoints("web", ips[:1+r.IntN(len(ips))]...))
					if err := c.proxy.Flush(context.Background()); err != nil {
						t.Error(err)
						break
					}
					changes++
				}
				done <- changes
			}()
			slow := 0
			for range 1000 {
				start := time.Now()
				conn, err := client.Dial("tcp", "10.96.0.100:80", 3*time.Second)
				if err != nil {
					t.Error(err)
					break
				}
				conn.Close()
				if time.Since(start) > 900*time.Millisecond {
					slow++
				}
			}
			stop.Store(true)
			changes := <-done
			// Under this load a veth itself drops a packet in some tens of
			// thousands, which its own counter shows.
			if slow > 2 {
				t.Errorf("%d of 1000 connections lost their first packet", slow)
			}
			t.Logf("%d changes, %d slow connections", changes, slow)
		})
	}
}
