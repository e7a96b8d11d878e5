package apiserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/httpstream"

	"sagong/apiserver/aggregator"
)

// transports are made once: one to the node agents, one into the pod network.
type transports struct {
	once  sync.Once
	agent *http.Transport
	pods  *http.Transport
}

func (s *Server) makeTransports() {
	s.transports.once.Do(func() {
		base := func(dial func(context.Context, string, string) (net.Conn, error), t *tls.Config) *http.Transport {
			return &http.Transport{
				DialContext: dial, TLSClientConfig: t, TLSHandshakeTimeout: 10 * time.Second,
				MaxIdleConnsPerHost: 4, IdleConnTimeout: 90 * time.Second, DisableCompression: true,
				// One protocol that can be upgraded; the agents see few requests.
				TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
			}
		}
		dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
		s.transports.agent = base(dialer.DialContext, s.Nodes.TLS())
		// A pod's own certificate is nobody's business: upstream does not verify
		// it either, and nothing of the caller's credentials is sent there.
		s.transports.pods = base(s.Nodes.Dial, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	})
}

func (s *Server) agentTransport() *http.Transport {
	s.makeTransports()
	return s.transports.agent
}

// forward passes the request on into the pod network.
func (q *request) forward(target *url.URL, path string) error {
	q.s.makeTransports()
	target.RawQuery = q.r.URL.RawQuery
	// A directory without its slash would break the page's relative links.
	if path == "" && q.r.Method == http.MethodGet && !httpstream.IsUpgradeRequest(q.r) && !strings.HasSuffix(q.r.URL.Path, "/") {
		u := *q.r.URL
		u.Path += "/"
		u.RawPath = ""
		q.w.Header().Set("Location", u.RequestURI())
		q.w.WriteHeader(http.StatusMovedPermanently)
		return nil
	}
	return q.proxy(target, path, q.s.transports.pods)
}

// proxy passes the request on and the answer back. Redirects are the client's to
// follow. An upgraded connection becomes a tunnel of bytes.
func (q *request) proxy(target *url.URL, path string, tr *http.Transport) error {
	if path == "" {
		path = "/"
	}
	plain, err := url.PathUnescape(path)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	target.Path, target.RawPath = plain, path
	if httpstream.IsUpgradeRequest(q.r) {
		return q.tunnel(target, tr)
	}
	rp := &httputil.ReverseProxy{
		Transport: tr, FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL = target
			p.Out.Host = target.Host
			stripIdentity(p.Out.Header)
			p.SetXForwarded()
		},
		ModifyResponse: func(r *http.Response) error {
			// The proxied side must not speak for the API server.
			for _, h := range []string{"Set-Cookie", "Audit-Id"} {
				r.Header.Del(h)
			}
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				err = r.Context().Err()
			}
			q.fail(apierrors.NewServiceUnavailable(fmt.Sprintf("error trying to reach service: %v", err)))
		},
		ErrorLog: nil,
	}
	rp.ServeHTTP(q.w, q.r)
	return nil
}

// stripIdentity removes what names or proves the caller, and the request's own id.
func stripIdentity(h http.Header) {
	aggregator.StripIdentity(h)
	h.Del("Audit-ID")
}

// tunnel upgrades the connection: the request goes out on a fresh connection,
// and when that answers 101 both are copied into each other until one ends.
// Neither is used for anything afterwards.
func (q *request) tunnel(target *url.URL, tr *http.Transport) error {
	ctx := q.r.Context()
	backend, err := dialTarget(ctx, target, tr)
	if err != nil {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("error dialing backend: %v", err))
	}
	defer backend.Close()
	out := q.r.Clone(ctx)
	out.URL = target
	out.Host = target.Host
	stripIdentity(out.Header)
	// Only the two hop-by-hop headers of the upgrade itself go on.
	upgrade := out.Header.Get("Upgrade")
	for line := range strings.SplitSeq(out.Header.Get("Connection"), ",") {
		out.Header.Del(strings.TrimSpace(line))
	}
	for _, h := range []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		out.Header.Del(h)
	}
	out.Header.Set("Connection", "Upgrade")
	out.Header.Set("Upgrade", upgrade)
	out.Body, out.ContentLength = http.NoBody, 0
	stop := context.AfterFunc(ctx, func() { backend.Close() })
	defer stop()
	if err := out.Write(backend); err != nil {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("error sending to backend: %v", err))
	}
	br := bufio.NewReader(backend)
	resp, err := http.ReadResponse(br, out)
	if err != nil {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("error reading from backend: %v", err))
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		for k, vs := range resp.Header {
			switch k {
			case "Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Set-Cookie", "Trailer":
			default:
				q.w.Header()[k] = vs
			}
		}
		q.w.Header().Set("Connection", "close")
		q.w.WriteHeader(resp.StatusCode)
		_, err := io.Copy(q.w, io.LimitReader(resp.Body, maxBody))
		if err != nil {
			q.s.log.Debug("backend's refusal of an upgrade broke off", "err", err)
		}
		return nil
	}
	client, buffered, err := http.NewResponseController(q.w).Hijack()
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("cannot upgrade this connection: %w", err))
	}
	defer client.Close()
	q.w.wrote, q.w.status = true, http.StatusSwitchingProtocols
	stopClient := context.AfterFunc(ctx, func() { client.Close() })
	defer stopClient()
	client.SetDeadline(time.Time{})
	resp.Header.Del("Set-Cookie")
	head := http.Response{StatusCode: resp.StatusCode, ProtoMajor: 1, ProtoMinor: 1, Header: resp.Header}
	if err := head.Write(client); err != nil {
		return nil
	}
	done := make(chan error, 2)
	go func() {
		// What the client sent early waits in the server's buffer.
		_, err := io.Copy(backend, buffered.Reader)
		closeWrite(backend)
		done <- err
	}()
	go func() {
		_, err := io.Copy(client, br)
		closeWrite(client)
		done <- err
	}()
	first := <-done
	if first != nil && !errors.Is(first, net.ErrClosed) {
		q.s.log.Debug("tunnel broke off", "path", q.info.Path, "err", first)
	}
	// The other half may still have something to say, but not for long.
	wait := time.NewTimer(5 * time.Second)
	defer wait.Stop()
	select {
	case <-done:
	case <-wait.C:
		client.Close()
		backend.Close()
		<-done
	}
	return nil
}

func closeWrite(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		h.CloseWrite()
		return
	}
	c.Close()
}

// dialTarget opens a connection of its own, which an upgrade consumes.
func dialTarget(ctx context.Context, target *url.URL, tr *http.Transport) (net.Conn, error) {
	conn, err := tr.DialContext(ctx, "tcp", target.Host)
	if err != nil {
		return nil, err
	}
	if target.Scheme != "https" {
		return conn, nil
	}
	c := tr.TLSClientConfig.Clone()
	if c.ServerName == "" {
		c.ServerName = target.Hostname()
	}
	c.NextProtos = []string{"http/1.1"}
	secure := tls.Client(conn, c)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}
