package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func complete(c Config) Config {
	c.Complete("Host-1", netip.MustParseAddr("192.0.2.7"))
	return c
}

func TestDefaultsAreValid(t *testing.T) {
	c := complete(Defaults())
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string][2]string{
		"data dir": {c.DataDir, "/var/lib/sagong"}, "run dir": {c.RunDir, "/run/sagong"}, "listen": {c.Listen, "192.0.2.7:6443"},
		"dns": {c.ClusterDNS, "10.96.0.10"}, "node": {c.NodeName, "host-1"}, "api service": {c.APIServiceIP().String(), "10.96.0.1"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s is %q, want %q", what, got[0], got[1])
		}
	}
}

func TestFaultsNameTheirFlag(t *testing.T) {
	for flag, spoil := range map[string]func(*Config){
		"name": func(c *Config) { c.Name = "Up" }, "data-dir": func(c *Config) { c.DataDir = "rel" }, "run-dir": func(c *Config) { c.RunDir = "/" },
		"node-ip": func(c *Config) { c.NodeIP = "x" }, "listen": func(c *Config) { c.Listen = "nowhere" },
		"cluster-cidr": func(c *Config) { c.ClusterCIDR = "10.0.0.0" }, "node-mask-size": func(c *Config) { c.NodeMaskSize = 8 },
		"service-cidr": func(c *Config) { c.ServiceCIDR = "10.244.0.0/24" }, "cluster-dns": func(c *Config) { c.ClusterDNS = "192.0.2.1" },
		"node-ports": func(c *Config) { c.NodePorts = "9" }, "kubelet-port": func(c *Config) { c.KubeletPort = 0 },
		"max-pods": func(c *Config) { c.MaxPods = 0 }, "store": func(c *Config) { c.Store = "etcd=https://x" },
		"runtime": func(c *Config) { c.Runtime = "cri=/x" }, "log-level": func(c *Config) { c.LogLevel = "loud" },
		"node-label": func(c *Config) { c.NodeLabels = []string{"a"} }, "mirror": func(c *Config) { c.Mirrors = []string{"a"} },
		"registry-ca": func(c *Config) { c.RegistryCA = []string{"/does/not/exist"} },
	} {
		c := complete(Defaults())
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "--"+flag+":") {
			t.Errorf("a bad --%s gives %v", flag, err)
		}
	}
}

func TestFlagsWinOverEnvironmentOverFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("maxPods: 1\nkubeletPort: 1\nlogLevel: warn\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Defaults()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.AddFlags(fs)
	if err := fs.Parse([]string{"--max-pods", "3"}); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"SAGONG_MAX_PODS": "2", "SAGONG_KUBELET_PORT": "2"}
	err := c.Load(file, func(k string) (string, bool) { v, ok := env[k]; return v, ok }, fs.Changed)
	if err != nil {
		t.Fatal(err)
	}
	if c.MaxPods != 3 || c.KubeletPort != 2 || c.LogLevel != "warn" {
		t.Errorf("max-pods %d (want 3, the flag), kubelet-port %d (want 2, the environment), log-level %s (want warn, the file)", c.MaxPods, c.KubeletPort, c.LogLevel)
	}
	if err := os.WriteFile(file, []byte("maxPodz: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Load(file, func(string) (string, bool) { return "", false }, fs.Changed); err == nil || !strings.Contains(err.Error(), "maxPodz") {
		t.Errorf("an unknown key gives %v", err)
	}
}

func TestArgsSayTheSame(t *testing.T) {
	c := complete(Defaults())
	c.MaxPods, c.NoAgent, c.TLSNames = 7, true, []string{"a", "b"}
	back := Defaults()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	back.AddFlags(fs)
	if err := fs.Parse(c.Args()); err != nil {
		t.Fatal(err)
	}
	back = complete(back)
	if strings.Join(back.Args(), " ") != strings.Join(c.Args(), " ") || back.MaxPods != 7 || !back.NoAgent || len(back.TLSNames) != 2 {
		t.Errorf("%v came back as %v", c.Args(), back.Args())
	}
}

// What no room can work with is said by its flag, not by a crash of that room.
func TestOnlyIPv4AndRangesThatSuffice(t *testing.T) {
	for flag, set := range map[string]func(*Config){
		"--service-cidr: fd00::/108 is not IPv4":               func(c *Config) { c.ServiceCIDR, c.ClusterDNS = "fd00::/108", "fd00::a" },
		"--service-cidr: 10.96.0.0/30 must be between":         func(c *Config) { c.ServiceCIDR = "10.96.0.0/30" },
		"--cluster-cidr: fd00::/64 is not IPv4":                func(c *Config) { c.ClusterCIDR, c.NodeMaskSize = "fd00::/64", 80 },
		"--node-ip: fd00::1 is not an IPv4 address":            func(c *Config) { c.NodeIP = "fd00::1"; c.Listen = "192.0.2.1:6443" },
		"--listen: [::1]:6443 is not an IPv4 address; this ve": func(c *Config) { c.Listen = "[::1]:6443" },
	} {
		c := Defaults()
		set(&c)
		c.Complete("host", netip.MustParseAddr("192.0.2.1"))
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%v, want %q", err, flag)
		}
	}
}
