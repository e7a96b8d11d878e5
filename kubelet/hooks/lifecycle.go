package hooks

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sagong/kubelet/pod"
	"sagong/kubelet/probe"
	"sagong/runtime"
)

// hookTimeout bounds an HTTP hook that has no other bound.
const hookTimeout = 30 * time.Second

// handler runs a lifecycle hook of a running container.
func (s *Steps) handler(ctx context.Context, p *corev1.Pod, ips []netip.Addr, m pod.Member, id string, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		out := probe.NewOutput(10 << 10)
		code, err := s.Runtime.Exec(ctx, id, runtime.ExecOptions{Args: h.Exec.Command, Stdout: out, Stderr: out})
		if err != nil {
			return fmt.Errorf("cannot run command %q: %w", h.Exec.Command, err)
		}
		if code != 0 {
			return fmt.Errorf("command '%s' exited with %d: %s", strings.Join(h.Exec.Command, " "), code, out.String())
		}
		return nil
	case h.HTTPGet != nil:
		ctx, cancel := context.WithTimeout(ctx, hookTimeout)
		defer cancel()
		return s.httpHook(ctx, ips, m, h.HTTPGet)
	case h.TCPSocket != nil:
		return fmt.Errorf("tcpSocket hooks are not supported")
	case h.Sleep != nil:
		t := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer t.Stop()
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("hook names no action")
}

// httpHook sends the request; any answer below 400 is success. Like upstream it
// falls back to HTTP when a server asked by HTTPS answers in plain text.
func (s *Steps) httpHook(ctx context.Context, ips []netip.Addr, m pod.Member, h *corev1.HTTPGetAction) error {
	req, err := probe.Request(ctx, h, m.Container, first(ips), "kube-lifecycle/1.37")
	if err != nil {
		return err
	}
	resp, err := probe.HookClient().Do(req)
	if err != nil && req.URL.Scheme == "https" && probe.IsPlainHTTP(err) {
		plain := req.Clone(ctx)
		plain.URL.Scheme = "http"
		plain.Header.Del("Authorization")
		resp, err = probe.HookClient().Do(plain)
	}
	if err != nil {
		return fmt.Errorf("cannot send hook request: %w", err)
	}
	resp.Body.Close()
	if resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("HTTP hook answered %s", resp.Status)
	}
	return nil
}

func first(ips []netip.Addr) netip.Addr {
	if len(ips) == 0 {
		return netip.Addr{}
	}
	return ips[0]
}
