package aggregator

import (
	"cmp"
	"context"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	openapi "k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// merged is the OpenAPI v2 document of all servers.
type merged struct {
	mu    sync.Mutex
	parts string // of what it was made
	doc   []byte
	// others are documents of other servers, as they last were, by URL.
	others map[string]part
}

// part is another server's document.
type part struct {
	etag string
	doc  []byte
}

// maxDocument bounds another server's OpenAPI v2 document, in bytes.
const maxDocument = 32 << 20

// v2 is this server's document with the paths of other servers' groups and what
// they refer to. Definitions of the same name that say different things get new
// names, as upstream's aggregator gives them. own is returned as it is when there
// is nothing to add.
func (a *Aggregator) v2(ctx context.Context, own []byte) []byte {
	a.mu.RLock()
	var routes []*route
	for _, r := range a.routes {
		if r.available() && r.err == nil {
			routes = append(routes, r)
		}
	}
	a.mu.RUnlock()
	if len(routes) == 0 {
		return own
	}
	slices.SortFunc(routes, func(a, b *route) int {
		return cmp.Or(cmp.Compare(b.service.Spec.GroupPriorityMinimum, a.service.Spec.GroupPriorityMinimum), cmp.Compare(b.service.Spec.VersionPriority, a.service.Spec.VersionPriority),
			cmp.Compare(a.service.Name, b.service.Name))
	})
	a.merged.mu.Lock()
	defer a.merged.mu.Unlock()
	sum := sha512.New()
	sum.Write(own)
	others := map[string]part{}
	for _, r := range routes {
		at := "https://" + host(r.service) + "/openapi/v2"
		p, asked := others[at]
		if !asked {
			p = a.merged.others[at].fetch(ctx, r, at)
			others[at] = p
		}
		fmt.Fprintf(sum, "%s %d\n", versionOf(r.service), len(p.doc))
		sum.Write(p.doc)
	}
	a.merged.others = others
	parts := string(sum.Sum(nil))
	if parts == a.merged.parts {
		return a.merged.doc
	}
	var all spec.Swagger
	if err := json.Unmarshal(own, &all); err != nil {
		a.o.Log.Error("cannot read this server's OpenAPI document", "err", err)
		return own
	}
	for _, r := range routes {
		doc := others["https://"+host(r.service)+"/openapi/v2"].doc
		if doc == nil {
			continue
		}
		if err := merge(&all, doc, versionOf(r.service)); err != nil {
			a.o.Log.Warn("cannot merge the OpenAPI document of another server", "apiservice", r.service.Name, "err", err)
		}
	}
	doc, err := json.Marshal(&all)
	if err != nil {
		a.o.Log.Error("cannot encode the OpenAPI document", "err", err)
		return own
	}
	a.merged.parts, a.merged.doc = parts, doc
	return doc
}

// merge adds to a document what another server's says of one group and version.
func merge(all *spec.Swagger, doc []byte, gv schema.GroupVersion) error {
	var other spec.Swagger
	if err := json.Unmarshal(doc, &other); err != nil {
		return fmt.Errorf("cannot read it: %w", err)
	}
	only := openapi.FilterSpecByPathsWithoutSideEffects(&other, []string{"/apis/" + gv.String() + "/"})
	return openapi.MergeSpecsIgnorePathConflictRenamingDefinitionsAndParameters(all, only)
}

// fetch asks a server for its document, unless it is the one that p is. A server
// that does not answer well has none.
func (p part) fetch(ctx context.Context, r *route, at string) part {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return part{}
	}
	identify(req.Header, &user.DefaultInfo{Name: "system:aggregator", Groups: []string{user.SystemPrivilegedGroup}})
	req.Header.Set("Accept", "application/json")
	if p.etag != "" {
		req.Header.Set("If-None-Match", p.etag)
	}
	resp, err := r.transport.RoundTrip(req)
	if err != nil {
		return part{}
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified && p.doc != nil {
		return p
	}
	doc, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil || resp.StatusCode != http.StatusOK || len(doc) > maxDocument {
		return part{}
	}
	return part{resp.Header.Get("Etag"), doc}
}

// serveV2 answers with next's document and what other servers add to it.
func (a *Aggregator) serveV2(w http.ResponseWriter, req *http.Request, next http.Handler) {
	own := &recorder{header: http.Header{}}
	in := req.Clone(req.Context())
	in.Header.Set("Accept", "application/json")
	in.Header.Del("If-None-Match")
	in.Header.Del("Accept-Encoding")
	next.ServeHTTP(own, in)
	doc := a.v2(req.Context(), own.body.Bytes())
	if len(doc) == own.body.Len() && string(doc) == own.body.String() {
		next.ServeHTTP(w, req)
		return
	}
	a.o.ServeV2(w, req, doc)
}

// hasV2 reports whether there may be something to add.
func (a *Aggregator) hasV2() bool {
	if a.o.ServeV2 == nil {
		return false
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	for _, r := range a.routes {
		if r.available() && r.err == nil {
			return true
		}
	}
	return false
}
