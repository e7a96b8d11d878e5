package proxy

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
	"time"

	"sagong/lib/netlink/nettest"
	"sagong/lib/nft"
)

func TestUDPMovesWithItsEndpoints(t *testing.T) {
	c := newCluster(t)
	client, _ := c.pod(t, "client")
	_, ipA := c.pod(t, "a")
	_, ipB := c.pod(t, "b")
	c.proxy.SetService(newService("dns", "10.96.0.100", nodePort(30053)))
	c.proxy.SetEndpointSlice(endpoints("dns", ipA))
	c.flush(t)
	conn, err := client.Dial("udp", "10.96.0.100:80", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ask := func() string {
		t.Helper()
		got, err := nettest.AskOn(conn)
		if err != nil {
			return err.Error()
		}
		name, _, _ := strings.Cut(got, " ")
		return name
	}
	if got := ask(); got != "a" {
		t.Fatal(got)
	}
	c.proxy.SetEndpointSlice(endpoints("dns", ipA, ipB))
	c.flush(t)
	if got := ask(); got != "a" {
		t.Errorf("one more endpoint moved the client to %q", got)
	}
	c.proxy.SetEndpointSlice(endpoints("dns", ipB))
	c.flush(t)
	if got := ask(); got != "b" {
		t.Errorf("after its endpoint left the client reaches %q", got)
	}
	// The same while no proxy runs.
	c.proxy.Close()
	c.open(t)
	c.proxy.SetService(newService("dns", "10.96.0.100", nodePort(30053)))
	c.proxy.SetEndpointSlice(endpoints("dns", ipA))
	c.proxy.Start()
	c.flush(t)
	if got := ask(); got != "a" {
		t.Errorf("after its endpoint left unseen the client reaches %q", got)
	}
	// A Service made anew.
	c.proxy.DeleteService("default", "dns")
	c.proxy.SetEndpointSlice(endpoints("dns"))
	c.flush(t)
	c.proxy.SetService(newService("dns2", "10.96.0.100"))
	c.proxy.SetEndpointSlice(endpoints("dns2", ipB))
	c.flush(t)
	if got := ask(); got != "b" {
		t.Errorf("at the Service made anew the client reaches %q", got)
	}
	// A client that sent to a NodePort before the Service was there.
	early, err := c.world.Dial("udp", "192.0.2.1:30054", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	stop := c.ServeUDP(t, "192.0.2.1:30054", "nobody")
	if got, err := nettest.AskOn(early); err != nil || !strings.HasPrefix(got, "nobody") {
		t.Fatal(got, err)
	}
	stop()
	c.proxy.SetService(newService("late", "10.96.0.101", nodePort(30054)))
	c.proxy.SetEndpointSlice(endpoints("late", ipA))
	c.flush(t)
	if got, err := nettest.AskOn(early); err != nil || !strings.HasPrefix(got, "a ") {
		t.Errorf("an early client reaches %q, %v", got, err)
	}
}

func TestRestartKeepsConnections(t *testing.T) {
	c := newCluster(t)
	client, _ := c.pod(t, "client")
	_, ipA := c.pod(t, "a")
	fill := func() {
		c.proxy.SetService(newService("web", "10.96.0.100", nodePort(30080)))
		c.proxy.SetEndpointSlice(endpoints("web", ipA))
	}
	// Other Services before it, which a later process does not know.
	c.proxy.SetService(newService("other", "10.96.0.99"))
	c.flush(t)
	fill()
	c.flush(t)
	before := c.proxy.model.pools[poolName{"default/web", 6, 80, false}].id
	conn, err := client.Dial("tcp", "10.96.0.100:80", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	echo := func() {
		t.Helper()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprintln(conn, "still there")
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if line == "still there\n" {
				return
			}
		}
	}
	echo()
	c.proxy.Close()
	echo()
	client.MustAsk(t, "tcp", "10.96.0.100:80")
	c.open(t)
	c.flush(t) // before Start: must not empty the table
	client.MustAsk(t, "tcp", "10.96.0.100:80")
	fill()
	c.proxy.Start()
	c.flush(t)
	echo()
	if after := c.proxy.model.pools[poolName{"default/web", 6, 80, false}].id; after != before {
		t.Errorf("the pool's number changed from %d to %d", before, after)
	}
	// Somebody flushes nftables.
	c.Do(t, func() error {
		k, err := nft.Open()
		if err != nil {
			return err
		}
		defer k.Close()
		b := nft.NewBatch(nft.IPv4, TableName("test"))
		b.DeleteTable()
		return k.Apply(b)
	})
	if needed, err := c.proxy.check(); err != nil || !needed {
		t.Fatal("the missing table went unseen", err)
	}
	c.flush(t)
	client.MustAsk(t, "tcp", "10.96.0.100:80")
	echo()
	// And once more, found out by an update.
	c.Do(t, func() error {
		k, err := nft.Open()
		if err != nil {
			return err
		}
		defer k.Close()
		b := nft.NewBatch(nft.IPv4, TableName("test"))
		b.DeleteTable()
		return k.Apply(b)
	})
	counted := c.proxy.Stats()
	c.proxy.SetService(newService("more", "10.96.0.101"))
	c.proxy.SetEndpointSlice(endpoints("more", ipA))
	c.flush(t)
	client.MustAsk(t, "tcp", "10.96.0.101:80")
	client.MustAsk(t, "tcp", "10.96.0.100:80")
	if s := c.proxy.Stats(); s.Flushes != counted.Flushes+1 || s.Rebuilt != counted.Rebuilt+1 || s.Elements == 0 || s.LastDuration <= 0 {
		t.Errorf("stats went from %+v to %+v", counted, s)
	}
	// Somebody deletes elements: the next change finds out and puts them back.
	c.Do(t, func() error {
		k, err := nft.Open()
		if err != nil {
			return err
		}
		defer k.Close()
		b := nft.NewBatch(nft.IPv4, TableName("test"))
		for key := range c.proxy.model.want {
			if key.set == setServices || key.set == setEndpoints {
				b.DeleteElement(setLayouts[key.set].Name, key.key[:keyLengths[key.set]])
			}
		}
		return k.Apply(b)
	})
	c.proxy.DeleteService("default", "more")
	c.flush(t)
	client.MustAsk(t, "tcp", "10.96.0.100:80")
	echo()
	if s := c.proxy.Stats(); s.Rebuilt != counted.Rebuilt+1 {
		t.Errorf("comparing was enough, but the table was rebuilt: %+v", s)
	}
}
