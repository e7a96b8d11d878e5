package hooks

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// hostFilesStep guarantees that the pod's /etc/hosts, /etc/hostname and
// /etc/resolv.conf exist in its directory, to be mounted into each container
// that does not mount something of its own there. A file that a container has
// changed is left as it is.
type hostFilesStep struct{ s *Steps }

func (hostFilesStep) Name() string { return "host files" }

func (h hostFilesStep) SetUp(ctx context.Context, p *Pod) error {
	dir := h.s.Volumes.PodDir(p.UID)
	hostname, err := h.s.Hostname(p.Pod)
	if err != nil {
		return err
	}
	hosts, err := h.s.hosts(p, hostname)
	if err != nil {
		return err
	}
	resolv, warnings, err := h.s.resolvConf(p.Pod)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		h.s.Recorder.Eventf(p.Pod, corev1.EventTypeWarning, "DNSConfigForming", "%s", w)
	}
	for name, data := range map[string][]byte{"etc-hosts": hosts, "hostname": []byte(hostname + "\n"), "resolv.conf": resolv} {
		path := filepath.Join(dir, name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
			continue
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return fmt.Errorf("cannot write %s of the pod: %w", name, err)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			return fmt.Errorf("cannot write %s of the pod: %w", name, err)
		}
	}
	return nil
}

func (hostFilesStep) TearDown(context.Context, Ident) error { return nil }

// Hostname is what hostname(1) says in the pod.
func (s *Steps) Hostname(p *corev1.Pod) (string, error) {
	if o := p.Spec.HostnameOverride; o != nil && *o != "" {
		return *o, nil
	}
	if p.Spec.HostNetwork {
		return s.cfg.NodeName, nil
	}
	name := p.Spec.Hostname
	if name == "" {
		name = p.Name
		if len(name) > 63 {
			name = strings.TrimRight(name[:63], "-.")
		}
	}
	if p.Spec.SetHostnameAsFQDN != nil && *p.Spec.SetHostnameAsFQDN {
		if d := s.domain(p); d != "" {
			name += "." + d
			if len(name) > 64 {
				return "", fmt.Errorf("Failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (64 characters is the max, %d characters requested)", name, len(name))
			}
		}
	}
	return name, nil
}

// domain is the cluster's domain of the pod, when it has a subdomain.
func (s *Steps) domain(p *corev1.Pod) string {
	if p.Spec.Subdomain == "" || p.Spec.HostnameOverride != nil && *p.Spec.HostnameOverride != "" {
		return ""
	}
	return fmt.Sprintf("%s.%s.svc.%s", p.Spec.Subdomain, p.Namespace, s.cfg.ClusterDomain)
}

// hosts renders /etc/hosts.
func (s *Steps) hosts(p *Pod, hostname string) ([]byte, error) {
	var b bytes.Buffer
	if p.Spec.HostNetwork {
		b.WriteString("# Kubernetes-managed hosts file (host network).\n")
		own, err := os.ReadFile("/etc/hosts")
		if err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("cannot read the node's hosts file: %w", err)
		}
		b.Write(own)
	} else {
		b.WriteString("# Kubernetes-managed hosts file.\n" +
			"127.0.0.1\tlocalhost\n" +
			"::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::0\tip6-localnet\n" +
			"fe00::0\tip6-mcastprefix\n" +
			"fe00::1\tip6-allnodes\n" +
			"fe00::2\tip6-allrouters\n")
		short, _, _ := strings.Cut(hostname, ".")
		for _, ip := range p.IPs {
			if d := s.domain(p.Pod); d != "" {
				fmt.Fprintf(&b, "%s\t%s.%s\t%s\n", ip, short, d, short)
			} else {
				fmt.Fprintf(&b, "%s\t%s\n", ip, hostname)
			}
		}
	}
	if len(p.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, a := range p.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
		}
	}
	return b.Bytes(), nil
}
