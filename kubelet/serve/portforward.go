package serve

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	goruntime "runtime"
	"strings"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
)

// forwarder connects streams to ports of one pod.
type forwarder struct {
	h *Handler
	p *corev1.Pod
}

// PortForward copies between a stream and a port of the pod until one side is
// done.
func (f forwarder) PortForward(ctx context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	ns, err := f.h.Node.NetNS(f.p)
	if err != nil {
		return err
	}
	conn, err := dialIn(ctx, ns, port)
	if err != nil {
		return fmt.Errorf("failed to connect to localhost:%d inside namespace %q: %w", port, f.p.UID, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	up := make(chan struct{})
	go func() {
		defer close(up)
		io.Copy(conn, stream)
		if t, ok := conn.(*net.TCPConn); ok {
			t.CloseWrite()
		}
	}()
	_, err = io.Copy(stream, conn)
	stream.Close()
	conn.Close()
	<-up
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// dialIn connects to a port on loopback in a network namespace, the host's when
// the path is empty. The thread that enters the namespace ends afterwards: it
// must never run anything else.
func dialIn(ctx context.Context, netns string, port int32) (net.Conn, error) {
	if netns == "" {
		return dialLoopback(ctx, port)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		goruntime.LockOSThread()
		ns, err := os.Open(netns)
		if err != nil {
			done <- result{err: err}
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{err: fmt.Errorf("cannot enter the pod's network: %w", err)}
			return
		}
		c, err := dialLoopback(ctx, port)
		done <- result{c, err}
	}()
	r := <-done
	return r.conn, r.err
}

func dialLoopback(ctx context.Context, port int32) (net.Conn, error) {
	var first error
	for _, ip := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		// The socket is made by this very thread: an address literal needs no
		// resolver and no second attempt beside the first.
		d := net.Dialer{Timeout: 10 * time.Second}
		c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(ip, uint16(port)).String())
		if err == nil {
			return c, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

func (h *Handler) portForward(w http.ResponseWriter, r *http.Request) {
	p, err := h.find(r)
	if err != nil {
		fail(w, err)
		return
	}
	if p.Status.Phase != corev1.PodRunning {
		fail(w, apierrors.NewBadRequest(fmt.Sprintf("unable to forward port because pod is not running. Current status=%v", p.Status.Phase)))
		return
	}
	f := forwarder{h, p}
	if tunnelled(r) {
		h.tunnel(w, r, f)
		return
	}
	q := r.URL.Query()
	if q.Get("port") == "" && q.Get("ports") != "" {
		q["port"] = q["ports"]
		r = r.Clone(r.Context())
		r.URL.RawQuery = q.Encode()
	}
	o, err := portforward.NewV4Options(r)
	if err != nil {
		fail(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	portforward.ServePortForward(w, r, f, p.Name, string(p.UID), o, h.StreamIdle, streamCreation, portforward.SupportedProtocols)
}

const tunnelProtocol = portforward.WebsocketsSPDYTunnelingPortForwardV1

// tunnelled says that the client speaks SPDY inside a WebSocket.
func tunnelled(r *http.Request) bool {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return false
	}
	for _, l := range r.Header.Values("Sec-Websocket-Protocol") {
		for p := range strings.SplitSeq(l, ",") {
			if strings.TrimSpace(p) == tunnelProtocol {
				return true
			}
		}
	}
	return false
}

// tunnel opens the WebSocket and serves SPDY on the bytes within.
func (h *Handler) tunnel(w http.ResponseWriter, r *http.Request, f forwarder) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{tunnelProtocol}, InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		h.Log.Debug("cannot upgrade to WebSocket", "err", err)
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(-1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	conn := websocket.NetConn(ctx, c, websocket.MessageBinary)
	inner := r.Clone(ctx)
	inner.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"SPDY/3.1"}, "X-Stream-Protocol-Version": {portforward.PortForwardV1Name}}
	portforward.ServePortForward(&hijacked{conn: conn, header: http.Header{}}, inner, f, f.p.Name, string(f.p.UID), &portforward.V4Options{}, h.StreamIdle, streamCreation, portforward.SupportedProtocols)
}

// hijacked is a response whose connection is at hand already. What is written
// to it as HTTP is not sent: the client believes the upgrade done.
type hijacked struct {
	conn   net.Conn
	header http.Header
}

// Header implements http.ResponseWriter.
func (h *hijacked) Header() http.Header { return h.header }

// Write implements http.ResponseWriter.
func (h *hijacked) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader implements http.ResponseWriter.
func (h *hijacked) WriteHeader(int) {}

// Hijack implements http.Hijacker.
func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}
