package hooks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"sagong/kubelet/pod"
)

// networkStep guarantees that the pod has its addresses, in Pod.IPs, and can
// be reached. A pod on the host's network has the node's.
type networkStep struct{ s *Steps }

func (networkStep) Name() string { return "network" }

func (n networkStep) SetUp(ctx context.Context, p *Pod) error {
	if p.Spec.HostNetwork {
		p.IPs = n.s.cfg.HostIPs
		return nil
	}
	ips, err := n.s.Network.Attach(ctx, string(p.UID), p.NetNS)
	if err != nil {
		return &SandboxError{Err: fmt.Errorf("cannot set up the pod's network: %w", err)}
	}
	p.IPs = ips
	// Kept beside the volumes, so that an agent that is started anew knows them.
	lines := make([]string, len(ips))
	for i, ip := range ips {
		lines[i] = ip.String()
	}
	if err := os.WriteFile(filepath.Join(n.s.Volumes.PodDir(p.UID), "addresses"), []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		return fmt.Errorf("cannot record the pod's addresses: %w", err)
	}
	return nil
}

func (n networkStep) TearDown(ctx context.Context, id Ident) error {
	return n.s.Network.Detach(ctx, string(id.UID))
}

// Addresses are what a pod that was set up earlier got.
func (s *Steps) Addresses(p *corev1.Pod) []netip.Addr {
	if p.Spec.HostNetwork {
		return s.cfg.HostIPs
	}
	data, err := os.ReadFile(filepath.Join(s.Volumes.PodDir(p.UID), "addresses"))
	if err != nil {
		return nil
	}
	var ips []netip.Addr
	for _, l := range strings.Fields(string(data)) {
		if ip, err := netip.ParseAddr(l); err == nil {
			ips = append(ips, ip)
		}
	}
	return ips
}

// hostPortsStep guarantees that the host ports of the pod lead to it.
type hostPortsStep struct{ s *Steps }

func (hostPortsStep) Name() string { return "host ports" }

func (h hostPortsStep) SetUp(ctx context.Context, p *Pod) error {
	ports := HostPortsOf(p.Pod)
	if len(ports) == 0 {
		return nil
	}
	if h.s.HostPorts == nil {
		return &SandboxError{Err: errors.New("host ports are not supported by this node")}
	}
	if err := h.s.HostPorts.Set(ctx, string(p.UID), p.IPs, ports); err != nil {
		return &SandboxError{Err: fmt.Errorf("cannot open host ports: %w", err)}
	}
	return nil
}

func (h hostPortsStep) TearDown(ctx context.Context, id Ident) error {
	if h.s.HostPorts == nil {
		return nil
	}
	return h.s.HostPorts.Remove(ctx, string(id.UID))
}

// HostPortsOf lists the host ports of a pod that is not on the host's network.
func HostPortsOf(p *corev1.Pod) []HostPort {
	if p.Spec.HostNetwork {
		return nil
	}
	var ports []HostPort
	for _, m := range pod.Members(p) {
		if m.Class != pod.Main && m.Class != pod.Sidecar {
			continue
		}
		for _, c := range m.Ports {
			if c.HostPort == 0 {
				continue
			}
			hp := HostPort{HostPort: uint16(c.HostPort), PodPort: uint16(c.ContainerPort), Protocol: c.Protocol}
			if hp.Protocol == "" {
				hp.Protocol = corev1.ProtocolTCP
			}
			if ip, err := netip.ParseAddr(c.HostIP); err == nil {
				hp.HostIP = ip
			}
			ports = append(ports, hp)
		}
	}
	return ports
}
