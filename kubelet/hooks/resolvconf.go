package hooks

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// The limits of resolv.conf that upstream holds pods to.
const (
	maxNameservers   = 3
	maxSearchPaths   = 32
	maxSearchListLen = 2048
)

// resolver is the content of a resolv.conf.
type resolver struct {
	servers, searches, options []string
}

// resolvConf renders the pod's resolver configuration by its dnsPolicy and
// dnsConfig. The warnings say what had to be left out.
func (s *Steps) resolvConf(p *corev1.Pod) (data []byte, warnings []string, err error) {
	var r resolver
	policy := p.Spec.DNSPolicy
	if policy == corev1.DNSClusterFirst && p.Spec.HostNetwork {
		policy = corev1.DNSDefault
	}
	switch policy {
	case corev1.DNSNone:
	case corev1.DNSDefault:
		if r, err = s.nodeResolver(); err != nil {
			return nil, nil, err
		}
	case corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet, "":
		node, err := s.nodeResolver()
		if err != nil {
			return nil, nil, err
		}
		if len(s.cfg.ClusterDNS) == 0 {
			warnings = append(warnings, "kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. Falling back to \"Default\" policy.")
			r = node
			break
		}
		for _, ip := range s.cfg.ClusterDNS {
			r.servers = append(r.servers, ip.String())
		}
		r.options = []string{"ndots:5"}
		if d := s.cfg.ClusterDomain; d != "" {
			r.searches = []string{p.Namespace + ".svc." + d, "svc." + d, d}
		}
		for _, n := range node.searches {
			if !slices.Contains(r.searches, n) {
				r.searches = append(r.searches, n)
			}
		}
	default:
		return nil, nil, fmt.Errorf("invalid DNS policy %q", policy)
	}
	if c := p.Spec.DNSConfig; c != nil {
		r.merge(c)
	}
	return r.render(&warnings), warnings, nil
}

func (r *resolver) merge(c *corev1.PodDNSConfig) {
	for _, n := range c.Nameservers {
		if !slices.Contains(r.servers, n) {
			r.servers = append(r.servers, n)
		}
	}
	for _, n := range c.Searches {
		if !slices.Contains(r.searches, n) {
			r.searches = append(r.searches, n)
		}
	}
	for _, o := range c.Options {
		text := o.Name
		if o.Value != nil && *o.Value != "" {
			text += ":" + *o.Value
		}
		i := slices.IndexFunc(r.options, func(have string) bool {
			name, _, _ := strings.Cut(have, ":")
			return name == o.Name
		})
		if i >= 0 {
			r.options[i] = text
		} else {
			r.options = append(r.options, text)
		}
	}
}

func (r *resolver) render(warnings *[]string) []byte {
	if len(r.servers) > maxNameservers {
		r.servers = r.servers[:maxNameservers]
		*warnings = append(*warnings, fmt.Sprintf("Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: %s", strings.Join(r.servers, " ")))
	}
	cut := false
	if len(r.searches) > maxSearchPaths {
		r.searches, cut = r.searches[:maxSearchPaths], true
	}
	for len(strings.Join(r.searches, " ")) > maxSearchListLen {
		r.searches, cut = r.searches[:len(r.searches)-1], true
	}
	if cut {
		*warnings = append(*warnings, fmt.Sprintf("Search Line limits were exceeded, some search paths have been omitted, the applied search line is: %s", strings.Join(r.searches, " ")))
	}
	var b bytes.Buffer
	if len(r.searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.searches, " "))
	}
	for _, n := range r.servers {
		fmt.Fprintf(&b, "nameserver %s\n", n)
	}
	if len(r.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.options, " "))
	}
	return b.Bytes()
}

// nodeResolver is the node's own configuration; a node without one has none.
func (s *Steps) nodeResolver() (resolver, error) {
	path := s.cfg.ResolvConf
	if path == "" {
		path = "/etc/resolv.conf"
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return resolver{}, nil
	}
	if err != nil {
		return resolver{}, fmt.Errorf("cannot read the node's resolver configuration: %w", err)
	}
	return parseResolvConf(string(data)), nil
}

// parseResolvConf reads the format of resolv.conf(5): the last search or domain
// line counts.
func parseResolvConf(text string) resolver {
	var r resolver
	for line := range strings.Lines(text) {
		if i := strings.IndexAny(line, "#;"); i == 0 {
			continue
		}
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			r.servers = append(r.servers, f[1])
		case "search", "domain":
			r.searches = nil
			for _, d := range f[1:] {
				if d != "." {
					d = strings.TrimSuffix(d, ".")
				}
				r.searches = append(r.searches, d)
			}
		case "options":
			for _, o := range f[1:] {
				name, _, _ := strings.Cut(o, ":")
				r.options = slices.DeleteFunc(r.options, func(have string) bool { n, _, _ := strings.Cut(have, ":"); return n == name })
				r.options = append(r.options, o)
			}
		}
	}
	return r
}
