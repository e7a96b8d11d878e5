package cli

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"sagong/compose"
	"sagong/config"
)

// avoidSiblings moves the default ports and address ranges of a new named cluster
// away from those of others on this machine. The cluster without a name keeps
// its defaults, which no named one ever takes.
func avoidSiblings(cfg *config.Config, changed func(string) bool) {
	if cfg.Name == config.DefaultName {
		return
	}
	entries, _ := os.ReadDir(registryDir)
	others := map[string]config.Config{}
	for _, e := range entries {
		if e.Name() == cfg.Name {
			continue
		}
		dir, err := os.Readlink(filepath.Join(registryDir, e.Name()))
		if err != nil {
			continue
		}
		data, err := os.ReadFile(compose.SettingsFile(dir))
		var other config.Config
		if err == nil && yaml.Unmarshal(data, &other) == nil {
			others[e.Name()] = other
		}
	}
	taken := func(used func(config.Config) bool) bool {
		for _, o := range others {
			if used(o) {
				return true
			}
		}
		return false
	}
	overlaps := func(a, b string) bool {
		p, err1 := netip.ParsePrefix(a)
		q, err2 := netip.ParsePrefix(b)
		return err1 == nil && err2 == nil && p.Overlaps(q)
	}
	pick := func(flag string, apply func(i int) string, clash func(v string, o config.Config) bool) string {
		for i := 1; i < 64; i++ {
			v := apply(i)
			if !taken(func(o config.Config) bool { return clash(v, o) }) {
				return v
			}
		}
		return apply(1)
	}
	if !changed("listen") && cfg.Listen == "" {
		if p := pick("listen", func(i int) string { return fmt.Sprint(6443 + i) }, func(v string, o config.Config) bool { return strings.HasSuffix(o.Listen, ":"+v) }); p != "6443" {
			cfg.Listen = p
		}
	}
	if !changed("kubelet-port") {
		_, _ = fmt.Sscan(pick("kubelet-port", func(i int) string { return fmt.Sprint(10250 + i) }, func(v string, o config.Config) bool { return v == fmt.Sprint(o.KubeletPort) }), &cfg.KubeletPort)
	}
	if !changed("cluster-cidr") {
		cfg.ClusterCIDR = pick("cluster-cidr", func(i int) string { return fmt.Sprintf("10.%d.0.0/16", 244-i) }, func(v string, o config.Config) bool { return overlaps(v, o.ClusterCIDR) || overlaps(v, o.ServiceCIDR) })
	}
	if !changed("service-cidr") {
		cfg.ServiceCIDR = pick("service-cidr", func(i int) string { return fmt.Sprintf("10.%d.0.0/16", 96+i) }, func(v string, o config.Config) bool { return overlaps(v, o.ServiceCIDR) || overlaps(v, o.ClusterCIDR) })
	}
}
