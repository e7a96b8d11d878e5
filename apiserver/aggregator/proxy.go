package aggregator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/lib/tracing"
)

// refusal replaces a redirect (CVE-2022-3172): whoever runs the other server must
// not send clients, with their credentials, wherever it likes.
const refusal = "the backend attempted to redirect this request, which is not permitted"

// proxy passes requests on. An upgraded connection becomes a tunnel that ends
// with it; a refused upgrade is an answer like any other, after which the next
// request on the client's connection is authenticated anew (CVE-2018-1002105).
type proxy struct{ r *route }

func (p proxy) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	u, ok := req.Context().Value(userKey{}).(user.Info)
	if !ok || u == nil {
		http.Error(w, "missing user", http.StatusInternalServerError)
		return
	}
	if !p.r.available() {
		http.Error(w, "service unavailable", http.StatusServiceUnavailable)
		return
	}
	if p.r.err != nil {
		http.Error(w, p.r.err.Error(), http.StatusInternalServerError)
		return
	}
	rp := &httputil.ReverseProxy{
		Transport: tracing.Transport(p.r.transport), FlushInterval: -1,
		Rewrite: func(out *httputil.ProxyRequest) {
			out.Out.URL.Scheme, out.Out.URL.Host = "https", host(p.r.service)
			out.Out.Host = out.Out.URL.Host
			out.SetXForwarded()
			identify(out.Out.Header, u)
		},
		ModifyResponse: func(resp *http.Response) error {
			if resp.StatusCode >= 300 && resp.StatusCode <= 399 && resp.Header.Get("Location") != "" {
				resp.Body.Close()
				resp.StatusCode, resp.Status = http.StatusBadGateway, ""
				resp.Header = http.Header{"Content-Type": {"text/plain; charset=utf-8"}}
				resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(refusal)), int64(len(refusal))
				resp.TransferEncoding = nil
				return nil
			}
			// The other server must not speak for this one.
			resp.Header.Del("Audit-Id")
			resp.Header.Del("Set-Cookie")
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if errors.Is(err, context.Canceled) {
				return
			}
			var nowhere unresolved
			if errors.As(err, &nowhere) {
				http.Error(w, "service unavailable", http.StatusServiceUnavailable)
				return
			}
			http.Error(w, fmt.Sprintf("error trying to reach service: %v", err), http.StatusServiceUnavailable)
		},
	}
	rp.ServeHTTP(w, req)
}

// StripIdentity removes what names or proves the caller.
func StripIdentity(h http.Header) {
	h.Del("Authorization")
	for k := range h {
		if l := strings.ToLower(k); strings.HasPrefix(l, "impersonate-") || strings.HasPrefix(l, "x-remote-") {
			delete(h, k)
		}
	}
	ps := h.Values("Sec-Websocket-Protocol")
	if len(ps) == 0 {
		return
	}
	var kept []string
	for _, line := range ps {
		for s := range strings.SplitSeq(line, ",") {
			// Browsers send tokens as a protocol.
			if s = strings.TrimSpace(s); s != "" && !strings.HasPrefix(s, "base64url.bearer.authorization.k8s.io.") {
				kept = append(kept, s)
			}
		}
	}
	h.Del("Sec-Websocket-Protocol")
	if len(kept) > 0 {
		h.Set("Sec-Websocket-Protocol", strings.Join(kept, ", ")) // of several lines many servers read the first
	}
}

// identify puts the user's name into the headers, and nothing of what proved it.
func identify(h http.Header, u user.Info) {
	StripIdentity(h)
	h.Set("X-Remote-User", u.GetName())
	if uid := u.GetUID(); uid != "" {
		h.Set("X-Remote-Uid", uid)
	}
	for _, g := range u.GetGroups() {
		h.Add("X-Remote-Group", g)
	}
	for k, vs := range u.GetExtra() {
		for _, v := range vs {
			h.Add("X-Remote-Extra-"+url.PathEscape(strings.ToLower(k)), v)
		}
	}
}
