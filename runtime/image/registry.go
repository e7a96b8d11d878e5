package image

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Media types of what a registry answers. Layers are recognised by content.
const (
	typeOCIIndex       = "application/vnd.oci.image.index.v1+json"
	typeOCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	typeOCIConfig      = "application/vnd.oci.image.config.v1+json"
	typeOCILayer       = "application/vnd.oci.image.layer.v1.tar"
	typeOCILayerGzip   = "application/vnd.oci.image.layer.v1.tar+gzip"
	typeOCILayerZstd   = "application/vnd.oci.image.layer.v1.tar+zstd"
	typeDockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

// How long a registry may take. A transfer of any length is fine as long as
// bytes keep coming.
const (
	dialTimeout   = 10 * time.Second
	answerTimeout = 30 * time.Second
	stallTimeout  = 60 * time.Second
)

// session talks to one endpoint about one repository, logged in.
type session struct {
	base   *url.URL // ends in /v2/<repository>
	ns     string   // the registry a mirror stands for, or ""
	client *http.Client
	host   string
}

// endpoints lists where a repository can be asked for, in order.
func (s *Store) endpoints(r Reference) (list []Endpoint, mirrors int) {
	reg, ok := s.opt.Registries[r.Domain]
	if !ok {
		reg = s.opt.Registries["*"]
		reg.Endpoint.URL = "" // every registry has its own address
	}
	list = append(list, reg.Mirrors...)
	mirrors = len(list)
	if !reg.MirrorsOnly {
		e := reg.Endpoint
		if e.URL == "" {
			e.URL = r.Domain
			if r.Domain == "docker.io" {
				e.URL = "registry-1.docker.io" // the name is not the address
			}
		}
		list = append(list, e)
	}
	return list, mirrors
}

// transportFor makes the connections to an endpoint.
func transportFor(e Endpoint) (t *http.Transport, u *url.URL, plain bool, err error) {
	raw := e.URL
	scheme, _, ok := strings.Cut(raw, "://")
	if !ok {
		raw = "https://" + raw
	} else if scheme != "http" && scheme != "https" {
		return nil, nil, false, fmt.Errorf("cannot use registry endpoint %q: unknown scheme", e.URL)
	}
	u, err = url.Parse(raw)
	if err != nil || u.Host == "" {
		return nil, nil, false, fmt.Errorf("cannot use registry endpoint %q: it is not an address", e.URL)
	}
	plain = scheme == "http" || !ok && isLoopback(u.Hostname())
	t = &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: answerTimeout,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       20 * time.Second,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: e.SkipVerify},
	}
	if len(e.CA) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(e.CA) {
			return nil, nil, false, fmt.Errorf("cannot use registry endpoint %q: its CA holds no certificate in PEM", e.URL)
		}
		t.TLSClientConfig.RootCAs = pool
	}
	if len(e.Cert) > 0 {
		pair, err := tls.X509KeyPair(e.Cert, e.Key)
		if err != nil {
			return nil, nil, false, fmt.Errorf("cannot use registry endpoint %q: client certificate: %w", e.URL, err)
		}
		t.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	return t, u, plain, nil
}

// isLoopback says whether a host is this machine, for which containerd and
// Docker allow plain HTTP without being told so.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// guard refuses plain HTTP where it was not allowed: a registry must not be
// able to talk a node down to it.
type guard struct {
	inner http.RoundTripper
	plain bool
}

func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.plain {
		return nil, fmt.Errorf("plain HTTP to %s is not allowed", r.URL.Host)
	}
	return g.inner.RoundTrip(r)
}

// dial logs in to an endpoint. close ends its connections.
func dial(ctx context.Context, r Reference, e Endpoint, mirror bool, cred *Credential) (_ *session, close func(), err error) {
	t, u, plain, err := transportFor(e)
	if err != nil {
		return nil, nil, err
	}
	opts := []name.Option{}
	if plain {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(u.Host, opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot use registry endpoint %q: %w", e.URL, err)
	}
	auth := authn.Anonymous
	if cred == nil {
		cred = e.Credential
	}
	if cred != nil && *cred != (Credential{}) {
		auth = authn.FromConfig(authn.AuthConfig{
			Username: cred.Username, Password: cred.Password,
			IdentityToken: cred.IdentityToken, RegistryToken: cred.RegistryToken,
		})
	}
	rt, err := transport.NewWithContext(ctx, reg, auth, transport.NewUserAgent(&guard{t, plain}, "sagong"), []string{"repository:" + r.Path + ":pull"})
	if err != nil {
		t.CloseIdleConnections()
		return nil, nil, registryError(u.Host, err)
	}
	s := &session{base: u.JoinPath("v2", r.Path), client: &http.Client{Transport: rt}, host: u.Host}
	if mirror {
		s.ns = r.Domain
	}
	return s, t.CloseIdleConnections, nil
}

// registryError sorts a failure to talk to a registry into the kinds of
// failure of this package.
func registryError(host string, err error) error {
	var te *transport.Error
	kind := ErrUnreachable
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &te):
		switch te.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			kind = ErrUnauthorized
		case http.StatusNotFound:
			kind = ErrNotFound
		}
	}
	for _, k := range []error{ErrNotFound, ErrUnauthorized, ErrUnreachable, ErrCorrupt, ErrTooLarge} {
		if errors.Is(err, k) {
			return err
		}
	}
	return fmt.Errorf("%w: %s: %w", kind, host, err)
}

// get asks for something below the repository.
func (s *session) get(ctx context.Context, rest string, header map[string]string) (*http.Response, error) {
	u := s.base.JoinPath(rest)
	if s.ns != "" {
		u.RawQuery = url.Values{"ns": {s.ns}}.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, registryError(s.host, err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
			return nil, errNoRange
		}
		return nil, registryError(s.host, transport.CheckError(resp))
	}
	return resp, nil
}

// manifest fetches a manifest or an index by tag or digest and verifies it.
func (s *session) manifest(ctx context.Context, identifier string, limit int64) (data []byte, mediaType, digest string, err error) {
	resp, err := s.get(ctx, "manifests/"+identifier, map[string]string{"Accept": strings.Join([]string{
		typeOCIIndex, typeDockerIndex, typeOCIManifest, typeDockerManifest}, ", ")})
	if err != nil {
		return nil, "", "", err
	}
	defer resp.Body.Close()
	data, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, "", "", registryError(s.host, err)
	}
	if int64(len(data)) > limit {
		return nil, "", "", fmt.Errorf("%w: manifest of more than %d bytes", ErrTooLarge, limit)
	}
	sum := sha256.Sum256(data)
	digest = "sha256:" + hex.EncodeToString(sum[:])
	want := resp.Header.Get("Docker-Content-Digest")
	if strings.HasPrefix(identifier, "sha256:") {
		want = identifier
	}
	if want != digest && strings.HasPrefix(want, "sha256:") {
		return nil, "", "", fmt.Errorf("%w: manifest %s has the digest %s", ErrCorrupt, want, digest)
	}
	return data, resp.Header.Get("Content-Type"), digest, nil
}

// open implements source.
func (s *session) open(ctx context.Context, digest string, offset int64) (io.ReadCloser, error) {
	header := map[string]string{"Accept-Encoding": "identity"}
	if offset > 0 {
		header["Range"] = "bytes=" + strconv.FormatInt(offset, 10) + "-"
	}
	ctx, cancel := context.WithCancel(ctx)
	resp, err := s.get(ctx, "blobs/"+digest, header)
	if err != nil {
		cancel()
		return nil, err
	}
	if offset > 0 && (resp.StatusCode != http.StatusPartialContent ||
		!strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset))) {
		resp.Body.Close()
		cancel()
		return nil, errNoRange
	}
	b := &body{inner: resp.Body, cancel: cancel, host: s.host}
	b.timer = time.AfterFunc(stallTimeout, func() {
		b.stalled.Store(true)
		cancel()
	})
	return b, nil
}

// body is a transfer that fails when nothing comes any more.
type body struct {
	inner   io.ReadCloser
	timer   *time.Timer
	cancel  context.CancelFunc
	stalled atomic.Bool
	host    string
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.inner.Read(p)
	if err == nil {
		b.timer.Reset(stallTimeout)
		return n, nil
	}
	if b.stalled.Load() {
		return n, fmt.Errorf("%w: %s: nothing came for %s", ErrUnreachable, b.host, stallTimeout)
	}
	if err != io.EOF && !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%w: %s: %w", ErrUnreachable, b.host, err)
	}
	return n, err
}

func (b *body) Close() error {
	b.timer.Stop()
	b.cancel()
	return b.inner.Close()
}
