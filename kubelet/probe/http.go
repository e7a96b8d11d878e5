package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// transport makes a new connection for each request: a probe must see whether
// the server accepts one. Certificates are not verified, as documented.
func transport() *http.Transport {
	return &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true, Proxy: nil, DisableCompression: true,
		DialContext: (&net.Dialer{}).DialContext,
	}
}

// HookClient sends lifecycle hooks.
func HookClient() *http.Client {
	return &http.Client{Transport: transport(), CheckRedirect: sameHost}
}

// sameHost follows redirects to the same host only, ten at most.
func sameHost(req *http.Request, via []*http.Request) error {
	if req.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	return nil
}

// IsPlainHTTP says that a server asked by TLS answered in plain text.
func IsPlainHTTP(err error) bool {
	var re tls.RecordHeaderError
	return errors.As(err, &re) && string(re.RecordHeader[:]) == "HTTP/" || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// Request is the HTTP request that an httpGet action describes.
func Request(ctx context.Context, h *corev1.HTTPGetAction, c *corev1.Container, ip netip.Addr, agent string) (*http.Request, error) {
	port, err := Port(h.Port, c)
	if err != nil {
		return nil, err
	}
	host := h.Host
	if host == "" {
		host = ip.String()
	}
	path := h.Path
	if path != "" && !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	u, err := url.Parse(path)
	if err != nil {
		u = &url.URL{Path: path}
	}
	u.Scheme = strings.ToLower(string(h.Scheme))
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	u.Host = net.JoinHostPort(host, strconv.Itoa(port))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, hd := range h.HTTPHeaders {
		req.Header.Add(hd.Name, hd.Value)
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header.Set("User-Agent", agent)
	}
	if v, ok := req.Header["Accept"]; !ok {
		req.Header.Set("Accept", "*/*")
	} else if len(v) == 1 && v[0] == "" {
		req.Header.Del("Accept")
	}
	if v := req.Header.Get("Host"); v != "" {
		req.Host = v
	}
	return req, nil
}

func httpProbe(ctx context.Context, h *corev1.HTTPGetAction, c *corev1.Container, ip netip.Addr, timeout time.Duration) (Outcome, string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := Request(ctx, h, c, ip, UserAgent)
	if err != nil {
		return Unknown, "", err
	}
	client := &http.Client{Transport: transport(), Timeout: timeout, CheckRedirect: sameHost}
	resp, err := client.Do(req)
	if err != nil {
		return Failure, err.Error(), nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxOutput))
	if err != nil {
		return Failure, err.Error(), nil
	}
	switch code := resp.StatusCode; {
	case code >= http.StatusMultipleChoices && code < http.StatusBadRequest:
		return Warning, fmt.Sprintf("Probe terminated redirects, Response body: %v", string(body)), nil
	case code >= http.StatusOK && code < http.StatusBadRequest:
		return Success, string(body), nil
	}
	return Failure, fmt.Sprintf("HTTP probe failed with statuscode: %d", resp.StatusCode), nil
}
