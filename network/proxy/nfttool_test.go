package proxy

import (
	"os/exec"
	"strings"
	"testing"
)

// The nft tool reads every table of the machine, whatever it is asked: one that
// it cannot read would break it, and firewalld with it.
func TestNftToolReadsTheTable(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("the nft tool is not installed")
	}
	c := newCluster(t)
	_, ipA := c.pod(t, "a")
	c.world.Route(t, prefix("198.51.100.0/24"), addr("192.0.2.1"))
	c.proxy.SetService(newService("web", "10.96.0.100", nodePort(30080), affinity(60), balancer("198.51.100.7", 0, "192.0.2.0/24"), externalLocal))
	c.proxy.SetService(newService("plain", "10.96.0.101"))
	c.proxy.SetService(newService("empty", "10.96.0.102"))
	c.proxy.SetEndpointSlice(endpoints("web", ipA, "10.244.1.77@n2"))
	c.proxy.SetEndpointSlice(endpoints("plain", ipA, "10.244.1.77"))
	c.flush(t)
	c.world.MustAsk(t, "tcp", "192.0.2.1:30080")
	for _, args := range [][]string{{"list", "tables"}, {"list", "ruleset"}, {"-j", "list", "ruleset"}} {
		c.Do(t, func() error {
			out, err := exec.Command("nft", args...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), TableName("test")) {
				t.Errorf("nft %v: %v\n%s", args, err, out)
			}
			t.Logf("nft %v:\n%s", args, out)
			return nil
		})
	}
}
