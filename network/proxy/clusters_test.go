package proxy

import (
	"context"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"sagong/lib/netlink/nettest"
)

// Two clusters on one machine do not touch each other's connections.
func TestTwoClustersOnOneMachine(t *testing.T) {
	c := newCluster(t)
	_, ipA := c.pod(t, "a")
	other := &cluster{Namespace: c.Namespace, world: c.world, pods: c.pods, cfg: c.cfg}
	other.cfg.Cluster, other.cfg.StateDir = "other", t.TempDir()+"/other"
	other.cfg.ServiceCIDRs, other.cfg.Served = []netip.Prefix{prefix("10.97.0.0/16")}, nil
	c.world.Route(t, prefix("10.96.0.0/16"), addr("192.0.2.1"))
	c.world.Route(t, prefix("10.97.0.0/16"), addr("192.0.2.1"))
	c.flush(t)
	other.open(t)
	other.proxy.Start()
	if c.proxy.model.tag == other.proxy.model.tag {
		t.Fatal("both clusters mark connections alike")
	}
	c.proxy.SetService(newService("web", "10.96.0.100", nodePort(30080)))
	c.proxy.SetEndpointSlice(endpoints("web", ipA))
	other.proxy.SetService(newService("web", "10.97.0.100", nodePort(30081)))
	other.proxy.SetService(newService("empty", "10.97.0.101", nodePort(30082)))
	other.proxy.SetEndpointSlice(endpoints("web", ipA))
	c.flush(t)
	other.flush(t)
	ask := func() {
		t.Helper()
		for _, to := range []string{"10.96.0.100:80", "192.0.2.1:30080"} {
			if got := c.world.MustAsk(t, "tcp", to); got != "a 192.0.2.1" {
				t.Errorf("%s answers %q", to, got)
			}
		}
	}
	ask()
	for _, to := range []string{"10.97.0.100:80", "192.0.2.1:30081"} {
		if got := c.world.MustAsk(t, "tcp", to); got != "a 192.0.2.1" {
			t.Errorf("%s answers %q", to, got)
		}
	}
	for _, to := range []string{"10.97.0.101:80", "192.0.2.1:30082"} {
		if _, err := c.world.Ask("tcp", to); !nettest.Refused(err) {
			t.Errorf("%s of a Service without endpoints: %v", to, err)
		}
	}
	tag := other.proxy.model.tag
	other.proxy.Close()
	other.open(t)
	if other.proxy.model.tag != tag {
		t.Error("the tag changed with a restart")
	}
	other.proxy.Close()
	c.Do(t, func() error { return Purge(context.Background(), other.cfg) })
	ask()
}

// A host port and a NodePort that collide: the Service wins, and the host port
// works when it goes.
func TestHostPortBehindNodePort(t *testing.T) {
	c := newCluster(t)
	_, ipA := c.pod(t, "a")
	_, ipB := c.pod(t, "b")
	c.proxy.SetHostPorts("b", []HostPort{{HostPort: 30080, Protocol: corev1.ProtocolTCP, Backend: netip.AddrPortFrom(addr(ipB), 8080)}})
	c.proxy.SetService(newService("web", "10.96.0.100", nodePort(30080)))
	c.proxy.SetEndpointSlice(endpoints("web", ipA))
	c.flush(t)
	if got := c.world.MustAsk(t, "tcp", "192.0.2.1:30080"); got != "a 192.0.2.1" {
		t.Error(got)
	}
	c.proxy.DeleteService("default", "web")
	c.flush(t)
	if got := c.world.MustAsk(t, "tcp", "192.0.2.1:30080"); got != "b 192.0.2.100" {
		t.Error(got)
	}
}
