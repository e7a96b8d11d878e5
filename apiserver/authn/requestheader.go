package authn

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

// RequestHeaders trusts what a proxy in front says of the user, in headers,
// when the proxy shows a certificate of an authority of its own:
// https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authenticating-proxy
type RequestHeaders struct {
	// Proxies verifies the proxy's certificate.
	Proxies Certificates
	// Allowed are the common names a proxy may have; none means any.
	Allowed []string
	// Users and UIDs are looked at in order, the first that says something counts;
	// of Groups and Extras (prefixes) all count.
	Users, UIDs, Groups, Extras []string
}

// AuthenticateRequest implements authenticator.Request.
func (h RequestHeaders) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, false, nil
	}
	name := first(r.Header, h.Users)
	if name == "" {
		return nil, false, nil
	}
	// A client whose certificate is of another authority is not a proxy, and its
	// headers mean nothing.
	if _, err := h.Proxies.verify(r, nobody); err != nil {
		return nil, false, nil
	}
	if cn := r.TLS.PeerCertificates[0].Subject.CommonName; len(h.Allowed) > 0 && !slices.Contains(h.Allowed, cn) {
		return nil, false, fmt.Errorf("x509: subject with cn=%s is not in the allowed list", cn)
	}
	u := &user.DefaultInfo{Name: name, UID: first(r.Header, h.UIDs), Groups: []string{}, Extra: map[string][]string{}}
	for _, g := range h.Groups {
		for _, v := range r.Header.Values(g) {
			if v != "" {
				u.Groups = append(u.Groups, v)
			}
		}
	}
	for _, prefix := range h.Extras {
		for k, vs := range r.Header {
			if len(k) < len(prefix) || !strings.EqualFold(k[:len(prefix)], prefix) {
				continue
			}
			key := strings.ToLower(k[len(prefix):])
			if plain, err := url.PathUnescape(key); err == nil {
				key = plain
			}
			u.Extra[key] = append(u.Extra[key], vs...)
		}
	}
	return &authenticator.Response{User: u}, true, nil
}

// Plain are the headers by which this server and others name users to one another.
var Plain = RequestHeaders{
	Users: []string{"X-Remote-User"}, UIDs: []string{"X-Remote-Uid"}, Groups: []string{"X-Remote-Group"}, Extras: []string{"X-Remote-Extra-"},
}

// Cleared takes the headers in which proxies name users off every request that was
// authenticated, whoever sent it: a server behind, that this one is a proxy to,
// would believe them.
type Cleared struct {
	authenticator.Request
	Headers []RequestHeaders
}

// AuthenticateRequest implements authenticator.Request.
func (c Cleared) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	resp, ok, err := c.Request.AuthenticateRequest(r)
	if ok && err == nil {
		for i := range c.Headers {
			c.Headers[i].clear(r.Header)
		}
	}
	return resp, ok, err
}

func (h *RequestHeaders) clear(from http.Header) {
	for _, list := range [][]string{h.Users, h.UIDs, h.Groups} {
		for _, name := range list {
			from.Del(name)
		}
	}
	for k := range from {
		for _, prefix := range h.Extras {
			if len(k) >= len(prefix) && strings.EqualFold(k[:len(prefix)], prefix) {
				delete(from, k)
			}
		}
	}
}

// nobody is whom a proxy's own certificate names.
func nobody(*x509.Certificate) (*authenticator.Response, error) { return nil, nil }

func first(h http.Header, names []string) string {
	for _, n := range names {
		if v := h.Get(n); v != "" {
			return v
		}
	}
	return ""
}
