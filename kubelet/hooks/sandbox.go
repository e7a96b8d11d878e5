package hooks

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"sagong/kubelet/pod"
	"sagong/runtime"
)

// sandboxStep guarantees that the pod's namespaces and cgroup exist and that
// Pod.NetNS names the network namespace.
type sandboxStep struct{ s *Steps }

func (sandboxStep) Name() string { return "sandbox" }

func (b sandboxStep) SetUp(ctx context.Context, p *Pod) error {
	sb, err := b.s.sandbox(ctx, p.Pod)
	if err != nil {
		return err
	}
	if err := b.s.Runtime.CreateSandbox(ctx, sb); err != nil {
		return &SandboxError{Err: err}
	}
	if p.NetNS, err = b.s.Runtime.NetNSPath(string(p.UID)); err != nil {
		return &SandboxError{Err: err}
	}
	return nil
}

func (b sandboxStep) TearDown(ctx context.Context, id Ident) error {
	return b.s.Runtime.RemoveSandbox(ctx, string(id.UID))
}

// SandboxError says that the sandbox or its network could not be made; it is
// reported as the event FailedCreatePodSandBox.
type SandboxError struct{ Err error }

// Error reads as upstream's event does.
func (e *SandboxError) Error() string {
	return "Failed to create pod sandbox: " + e.Err.Error()
}

// Unwrap is the cause.
func (e *SandboxError) Unwrap() error { return e.Err }

// Labels and annotations that the runtime keeps for this node.
const (
	labelPodName      = "io.kubernetes.pod.name"
	labelPodNamespace = "io.kubernetes.pod.namespace"
	labelPodUID       = "io.kubernetes.pod.uid"
	labelContainer    = "io.kubernetes.container.name"
)

func (s *Steps) sandbox(ctx context.Context, p *corev1.Pod) (runtime.Sandbox, error) {
	hostname, err := s.Hostname(p)
	if err != nil {
		return runtime.Sandbox{}, err
	}
	if c := p.Spec.RuntimeClassName; c != nil && *c != "" {
		handler, err := s.Classes.RuntimeHandler(ctx, *c)
		if err != nil {
			return runtime.Sandbox{}, &SandboxError{Err: fmt.Errorf("failed to get sandbox runtime: %w", err)}
		}
		if handler != "" && !slices.Contains(s.cfg.RuntimeHandlers, handler) {
			return runtime.Sandbox{}, &SandboxError{Err: fmt.Errorf("failed to get sandbox runtime: no runtime for %q is configured", handler)}
		}
	}
	sb := runtime.Sandbox{
		UID: string(p.UID), Namespace: p.Namespace, Name: p.Name,
		CgroupParent: pod.CgroupParent(p), Resources: pod.PodLimits(p, s.cfg.Capacity),
		HostNetwork: p.Spec.HostNetwork, HostPID: p.Spec.HostPID, HostIPC: p.Spec.HostIPC,
		ShareProcessNamespace: p.Spec.ShareProcessNamespace != nil && *p.Spec.ShareProcessNamespace,
		UserNamespace:         p.Spec.HostUsers != nil && !*p.Spec.HostUsers,
		Labels:                map[string]string{labelPodName: p.Name, labelPodNamespace: p.Namespace, labelPodUID: string(p.UID)},
	}
	if !p.Spec.HostNetwork {
		sb.Hostname = hostname
		sb.Sysctls = map[string]string{
			"net.ipv4.ip_unprivileged_port_start": "0",
			"net.ipv4.ping_group_range":           "0 2147483647",
		}
	}
	if sc := p.Spec.SecurityContext; sc != nil {
		for _, c := range sc.Sysctls {
			if sb.Sysctls == nil {
				sb.Sysctls = map[string]string{}
			}
			sb.Sysctls[strings.ReplaceAll(c.Name, "/", ".")] = c.Value
		}
	}
	return sb, nil
}

// safeSysctls may be set by any pod, as upstream's list says.
var safeSysctls = []string{
	"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
	"net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports",
	"net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}

// ForbiddenSysctl says why a pod's sysctls must not be set on this node.
func (s *Steps) ForbiddenSysctl(p *corev1.Pod) error {
	if p.Spec.SecurityContext == nil {
		return nil
	}
	for _, c := range p.Spec.SecurityContext.Sysctls {
		name := strings.ReplaceAll(c.Name, "/", ".")
		net, ipc := strings.HasPrefix(name, "net."), strings.HasPrefix(name, "kernel.shm") || strings.HasPrefix(name, "kernel.msg") || name == "kernel.sem" || strings.HasPrefix(name, "fs.mqueue.")
		if net && p.Spec.HostNetwork {
			return fmt.Errorf("forbidden sysctl: %q not allowed with host net enabled", name)
		}
		if ipc && p.Spec.HostIPC {
			return fmt.Errorf("forbidden sysctl: %q not allowed with host ipc enabled", name)
		}
		ok := slices.Contains(safeSysctls, name) || slices.ContainsFunc(s.cfg.AllowedUnsafeSysctls, func(a string) bool {
			prefix, wild := strings.CutSuffix(a, "*")
			return wild && strings.HasPrefix(name, prefix) || a == name
		})
		if !ok || !net && !ipc {
			return fmt.Errorf("forbidden sysctl: %q not allowlisted", name)
		}
	}
	return nil
}
