package aggregator

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
)

// OpenAPI passes requests for the documents of other servers' groups on to them,
// and adds them to the index. next answers all else.
func (a *Aggregator) OpenAPI(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		path := strings.TrimSuffix(req.URL.Path, "/")
		if path == "/openapi/v2" && a.hasV2() {
			a.serveV2(w, req, next)
			return
		}
		if path == "/openapi/v3" {
			if extra := a.documents(req.Context()); len(extra) > 0 {
				index(w, req, next, extra)
				return
			}
		}
		if rest, ok := strings.CutPrefix(path, "/openapi/v3/apis/"); ok {
			if gv, err := schema.ParseGroupVersion(rest); err == nil {
				if h := a.Delegate(gv); h != nil {
					h.ServeHTTP(w, req)
					return
				}
			}
		}
		next.ServeHTTP(w, req)
	})
}

// document is an entry of the index.
type document struct {
	ServerRelativeURL string `json:"serverRelativeURL"`
}

type documents struct {
	Paths map[string]document `json:"paths"`
}

// documents asks the other servers which documents they have.
func (a *Aggregator) documents(ctx context.Context) map[string]document {
	a.mu.RLock()
	routes := make(map[schema.GroupVersion]*route, len(a.routes))
	for gv, r := range a.routes {
		if r.available() && r.err == nil {
			routes[gv] = r
		}
	}
	a.mu.RUnlock()
	extra := map[string]document{}
	for gv, r := range routes {
		key := "apis/" + gv.String()
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		if d, ok := listed(ctx, r, key); ok {
			extra[key] = d
		}
		cancel()
	}
	return extra
}

func listed(ctx context.Context, r *route, key string) (document, bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host(r.service)+"/openapi/v3", nil)
	if err != nil {
		return document{}, false
	}
	identify(req.Header, &user.DefaultInfo{Name: "system:aggregator", Groups: []string{user.SystemPrivilegedGroup}})
	resp, err := r.transport.RoundTrip(req)
	if err != nil {
		return document{}, false
	}
	defer resp.Body.Close()
	var all documents
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, maxDiscovery)).Decode(&all) != nil {
		return document{}, false
	}
	d, ok := all.Paths[key]
	// Only a place under the document's own path is passed on.
	return d, ok && strings.HasPrefix(d.ServerRelativeURL, "/openapi/v3/"+key)
}

// index answers with what next lists and more.
func index(w http.ResponseWriter, req *http.Request, next http.Handler, extra map[string]document) {
	own := &recorder{header: http.Header{}}
	in := req.Clone(req.Context())
	in.Header.Del("If-None-Match")
	in.Header.Del("Accept-Encoding")
	next.ServeHTTP(own, in)
	var all documents
	if json.Unmarshal(own.body.Bytes(), &all) != nil || all.Paths == nil {
		next.ServeHTTP(w, req)
		return
	}
	for k, d := range extra {
		all.Paths[k] = d
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Add("Vary", "Accept")
	_ = json.NewEncoder(w).Encode(all)
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(int)             {}
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
