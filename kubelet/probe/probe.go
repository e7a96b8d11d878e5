// Package probe asks the containers of a node whether they are started, ready
// and alive: by command, HTTP, TCP or gRPC. All probes of a node share one heap
// of deadlines and a bounded number of goroutines; one at rest costs none.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sagong/runtime"
)

// UserAgent is how HTTP and gRPC probes introduce themselves.
const UserAgent = "kube-probe/1.37"

// Outcome of one probe.
type Outcome int

// The outcomes. A Warning counts as success.
const (
	Unknown Outcome = iota
	Success
	Warning
	Failure
)

// Executor runs commands in containers.
type Executor interface {
	Exec(ctx context.Context, id string, o runtime.ExecOptions) (exitCode int, err error)
}

// maxOutput bounds what is kept of a command's output or a response.
const maxOutput = 10 << 10

// Once carries out a probe of a container once. The text says what was found;
// an error says that the probe itself could not be made.
func Once(ctx context.Context, ex Executor, id string, ip netip.Addr, c *corev1.Container, p *corev1.Probe) (Outcome, string, error) {
	timeout := time.Duration(max(p.TimeoutSeconds, 1)) * time.Second
	switch {
	case p.Exec != nil:
		return execProbe(ctx, ex, id, p.Exec, timeout)
	case p.HTTPGet != nil:
		return httpProbe(ctx, p.HTTPGet, c, ip, timeout)
	case p.TCPSocket != nil:
		return tcpProbe(ctx, p.TCPSocket, c, ip, timeout)
	case p.GRPC != nil:
		return grpcProbe(ctx, p.GRPC, ip, timeout)
	}
	return Unknown, "", errors.New("missing probe handler")
}

func execProbe(ctx context.Context, ex Executor, id string, h *corev1.ExecAction, timeout time.Duration) (Outcome, string, error) {
	out := NewOutput(maxOutput)
	code, err := ex.Exec(ctx, id, runtime.ExecOptions{Args: h.Command, Stdout: out, Stderr: out, Timeout: timeout})
	switch {
	case errors.Is(err, runtime.ErrTimeout):
		return Failure, fmt.Sprintf("command timed out: %q timed out after %v", h.Command, timeout), nil
	case err != nil:
		var se *runtime.StartError
		if errors.As(err, &se) {
			return Failure, err.Error(), nil
		}
		return Unknown, "", err
	case code != 0:
		return Failure, out.String(), nil
	}
	return Success, out.String(), nil
}

func tcpProbe(ctx context.Context, h *corev1.TCPSocketAction, c *corev1.Container, ip netip.Addr, timeout time.Duration) (Outcome, string, error) {
	port, err := Port(h.Port, c)
	if err != nil {
		return Unknown, "", err
	}
	host := h.Host
	if host == "" {
		host = ip.String()
	}
	d := net.Dialer{Timeout: timeout}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return Failure, err.Error(), nil
	}
	conn.Close()
	return Success, "", nil
}

// Port resolves a port that may be the name of a container port.
func Port(p intstr.IntOrString, c *corev1.Container) (int, error) {
	n := 0
	if p.Type == intstr.Int {
		n = p.IntValue()
	} else {
		for _, cp := range c.Ports {
			if cp.Name == p.StrVal {
				n = int(cp.ContainerPort)
			}
		}
		if n == 0 {
			v, err := strconv.Atoi(p.StrVal)
			if err != nil {
				return 0, fmt.Errorf("couldn't find port: %v in %v", p.StrVal, c.Name)
			}
			n = v
		}
	}
	if n <= 0 || n > 65535 {
		return 0, fmt.Errorf("invalid port number: %v", n)
	}
	return n, nil
}

// Output keeps the first bytes of what a command writes and swallows the rest.
// Standard output and error may be written to it at the same time.
type Output struct {
	mu    sync.Mutex
	limit int
	data  []byte
}

// NewOutput keeps up to limit bytes.
func NewOutput(limit int) *Output { return &Output{limit: limit} }

// Write never fails.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.data = append(o.data, p[:min(len(p), o.limit-len(o.data))]...)
	return len(p), nil
}

// String is what was kept.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.data)
}
