// Package webhookclient calls the HTTPS servers that users register: admission
// and conversion webhooks. Whoever may write such a registration makes this
// server send requests, so every request is the same harmless one: a POST of
// JSON over verified TLS, without credentials, redirects or an answer that
// reaches anybody but the code that asked for it.
package webhookclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"sync"
	"time"

	"k8s.io/utils/lru"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sagong/apiserver/turn"
	"sagong/lib/pki"
	"sagong/lib/tracing"
)

// Config says where a webhook is: by URL, or by Service.
type Config struct {
	// URL is https://host[:port][/path]; empty when Service is set.
	URL     string
	Service *Service
	// CABundle holds the PEM certificates that the server's must be from; empty
	// means the system's.
	CABundle []byte
}

// Service is a webhook behind a Service of the cluster.
type Service struct {
	Namespace, Name string
	Path            string
	Port            int32 // 0 means 443
}

// Resolver finds an address ("ip:port") behind a port of a Service. It is asked
// for every new connection.
type Resolver interface {
	Resolve(ctx context.Context, namespace, name string, port int32) (string, error)
}

// Dial opens connections.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

const (
	// maxClients bounds the connection pools, one for each place and bundle, as
	// upstream does.
	maxClients  = 200
	defaultPort = 443
	// maxRetries is how often a webhook that says when to ask again is, as
	// upstream does.
	maxRetries = 10
)

// Clients calls webhooks and keeps their connections. All methods may be called
// at the same time.
type Clients struct {
	resolver Resolver
	dial     Dial

	mu    sync.Mutex
	pools *lru.Cache // of string to *pool
}

// New makes Clients. A nil dial is the host's.
func New(r Resolver, dial Dial) *Clients {
	if dial == nil {
		dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	c := &Clients{resolver: r, dial: dial}
	c.pools = lru.NewWithEvictionFunc(maxClients, func(_ lru.Key, v any) { v.(*pool).client.CloseIdleConnections() })
	return c
}

// pool is what calls to one place share.
type pool struct {
	url    string
	client *http.Client
}

// Post sends body and returns the answer, which may have limit bytes at most.
// The webhook is told of ctx's deadline. An answer other than success is an
// error of the API without the text that came with it: it may be from a place
// that the user who registered the webhook must not read (CVE-2020-8561).
func (c *Clients) Post(ctx context.Context, cfg Config, body []byte, limit int64) ([]byte, error) {
	a, err := c.Ask(ctx, cfg, body, limit)
	return a.Body, err
}

// Answer is what a webhook said, which was success.
type Answer struct {
	Code        int
	ContentType string // as it was sent
	Body        []byte
}

// Unusable is the error for a Config with which nobody can be asked.
type Unusable struct{ error }

// Ask is Post that tells more of the answer. An Unusable is returned as it is.
func (c *Clients) Ask(ctx context.Context, cfg Config, body []byte, limit int64) (Answer, error) {
	p, err := c.pool(cfg)
	if err != nil {
		return Answer{}, Unusable{err}
	}
	at := p.url
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline); left > 0 {
			at += "?timeout=" + (left + time.Second - 1).Truncate(time.Second).String()
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, */*")
	req.Header.Set("User-Agent", "kube-apiserver-admission")
	// Asking again is harmless by the webhooks' contract; so a connection that
	// turns out to have died while idle may be replaced. The header is not sent.
	req.Header["X-Idempotency-Key"] = nil
	turn.Yield(ctx)
	resp, err := p.client.Do(req)
	for tries := 1; err == nil && tries <= maxRetries; tries++ {
		wait, ok := retryAfter(resp)
		if !ok {
			break
		}
		drain(resp)
		resp.Body.Close()
		if err := sleep(ctx, wait); err != nil {
			return Answer{}, &url.Error{Op: "Post", URL: at, Err: err}
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		resp, err = p.client.Do(req)
	}
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	a := Answer{Code: resp.StatusCode, ContentType: resp.Header.Get("Content-Type")}
	if a.ContentType != "" {
		if _, _, err := mime.ParseMediaType(a.ContentType); err != nil {
			return Answer{}, apierrors.NewInternalError(err)
		}
	}
	if resp.StatusCode < 200 || resp.StatusCode > 206 {
		drain(resp)
		wait, _ := retryAfter(resp)
		return Answer{}, apierrors.NewGenericServerResponse(resp.StatusCode, "POST", schema.GroupResource{}, "", "unknown", int(wait/time.Second), true)
	}
	a.Body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return Answer{}, fmt.Errorf("unexpected error when reading response body. Please retry. Original error: %w", err)
	}
	if int64(len(a.Body)) > limit {
		return Answer{}, fmt.Errorf("the answer has more than %d bytes", limit)
	}
	return a, nil
}

// retryAfter says whether a webhook wants to be asked again, and when.
func retryAfter(resp *http.Response) (time.Duration, bool) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode < http.StatusInternalServerError {
		return 0, false
	}
	n, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	return time.Duration(max(n, 0)) * time.Second, err == nil
}

// drain reads what is left, so that the connection can be used again.
func drain(resp *http.Response) { _, _ = io.CopyN(io.Discard, resp.Body, 64<<10) }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pool finds or makes the connections to a place.
func (c *Clients) pool(cfg Config) (*pool, error) {
	key := cfg.URL
	if s := cfg.Service; s != nil {
		key = fmt.Sprintf("%s/%s:%d%s", s.Namespace, s.Name, s.Port, s.Path)
	}
	key += "\x00" + string(cfg.CABundle)
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.pools.Get(key); ok {
		return p.(*pool), nil
	}
	p, err := c.newPool(cfg)
	if err == nil {
		c.pools.Add(key, p)
	}
	return p, err
}

func (c *Clients) newPool(cfg Config) (*pool, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(cfg.CABundle) > 0 {
		var err error
		if t.RootCAs, err = pki.Roots(cfg.CABundle); err != nil {
			return nil, err
		}
	}
	tr := &http.Transport{
		TLSClientConfig: t, TLSHandshakeTimeout: 10 * time.Second, MaxIdleConnsPerHost: 25, IdleConnTimeout: 90 * time.Second,
		// HTTP/1.1: one connection of HTTP/2 would reach one of many endpoints only.
		Protocols: new(http.Protocols), MaxResponseHeaderBytes: 64 << 10, DialContext: c.dial,
	}
	tr.Protocols.SetHTTP1(true)
	p := &pool{client: &http.Client{
		Transport: tracing.Transport(tr),
		// A redirect could lead anywhere: its answer is taken as it is.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if cfg.Service == nil {
		u, err := url.Parse(cfg.URL)
		if err != nil {
			return nil, fmt.Errorf("Unparsable URL: %w", err)
		}
		if u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return nil, errors.New("webhook configuration must have a URL of the form https://host[/path], or a service")
		}
		tr.Proxy = http.ProxyFromEnvironment
		u.Path, u.RawPath = path.Join("/", u.Path), ""
		p.url = u.String()
		return p, nil
	}
	s := *cfg.Service
	if s.Port == 0 {
		s.Port = defaultPort
	}
	name := s.Name + "." + s.Namespace + ".svc"
	t.ServerName = name
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		if c.resolver == nil {
			return nil, errors.New("this server cannot resolve services")
		}
		at, err := c.resolver.Resolve(ctx, s.Namespace, s.Name, s.Port)
		if err != nil {
			return nil, err
		}
		return c.dial(ctx, network, at)
	}
	u := url.URL{Scheme: "https", Host: net.JoinHostPort(name, strconv.Itoa(int(s.Port))), Path: path.Join("/", s.Path)}
	p.url = u.String()
	return p, nil
}
