package apiserver

import (
	"net/http"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Info is what a request's path and method say.
type Info struct {
	Path string
	// Resource requests are those on API objects; all else is known by its path.
	Resource bool
	// Discovery requests ask about a group or version, not an object.
	Discovery bool

	Verb        string
	GV          schema.GroupVersion
	Namespace   string
	Plural      string // "pods"
	Name        string
	Subresource string
	Rest        string // of the path after a proxy subresource, with its slash
	Watch       bool   // asked for by the old /watch/ prefix
}

// GVR is the resource asked for.
func (i *Info) GVR() schema.GroupVersionResource { return i.GV.WithResource(i.Plural) }

// split takes a path apart. It does not decide whether the resource exists.
func split(method string, u *url.URL) Info {
	path := u.Path
	in := Info{Path: path, Verb: strings.ToLower(method)}
	rest, ok := strings.CutPrefix(path, "/api/")
	if ok {
		in.GV.Version, rest, _ = strings.Cut(rest, "/")
	} else if rest, ok = strings.CutPrefix(path, "/apis/"); ok {
		in.GV.Group, rest, _ = strings.Cut(rest, "/")
		in.GV.Version, rest, _ = strings.Cut(rest, "/")
	} else {
		in.Discovery = path == "/api" || path == "/apis"
		return in
	}
	if in.GV.Version == "" || rest == "" {
		in.Discovery = true
		return in
	}
	if after, ok := strings.CutPrefix(rest, "watch/"); ok {
		in.Watch = true
		rest = after
	}
	first, after, more := strings.Cut(rest, "/")
	if first == "namespaces" && more && after != "" {
		namespace, tail, deeper := strings.Cut(after, "/")
		in.Namespace = namespace
		if deeper && tail != "" && !namespaceSubresource(tail) {
			first, after, _ = strings.Cut(tail, "/")
		}
	}
	in.Resource = true
	in.Plural = first
	name, tail, _ := strings.Cut(after, "/")
	in.Name = name
	in.Subresource, in.Rest, _ = strings.Cut(tail, "/")
	if in.Subresource == "proxy" {
		in.Rest = proxyRest(u, in)
	}
	in.Verb = verbOf(method, &in, u)
	return in
}

// namespaceSubresource reports whether what follows /namespaces/NAME/ belongs to
// the Namespace itself.
func namespaceSubresource(tail string) bool {
	first, _, _ := strings.Cut(tail, "/")
	return first == "status" || first == "finalize"
}

// proxyRest is the escaped path after .../proxy, "" when there is none.
func proxyRest(u *url.URL, in Info) string {
	const mark = "/proxy"
	escaped := u.EscapedPath()
	// The name may hold an escaped slash; the subresource is the first "proxy"
	// after as many segments as the plain form has.
	segments := 4 // api, v1, nodes, NAME
	if in.GV.Group != "" {
		segments++
	}
	if in.Namespace != "" {
		segments += 2
	}
	at := 0
	for range segments {
		next := strings.IndexByte(escaped[at+1:], '/')
		if next < 0 {
			return ""
		}
		at += 1 + next
	}
	rest := escaped[at:]
	if after, ok := strings.CutPrefix(rest, mark); ok {
		return after
	}
	return ""
}

func verbOf(method string, in *Info, u *url.URL) string {
	if in.Watch && method != http.MethodGet && method != http.MethodHead {
		return "watch"
	}
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodGet, http.MethodHead:
		if in.Name != "" && !in.Watch {
			return "get"
		}
		q := u.Query()
		if in.Name == "" {
			// A list of one object is judged as a read of that object.
			if f, err := fields.ParseSelector(q.Get("fieldSelector")); err == nil {
				if name, ok := f.RequiresExactMatch("metadata.name"); ok && len(name) > 0 && !strings.ContainsAny(name, "/%") && name != "." && name != ".." {
					in.Name = name
				}
			}
		}
		if in.Watch || truth(q, "watch") {
			return "watch"
		}
		return "list"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if in.Name == "" {
			return "deletecollection"
		}
		return "delete"
	}
	return ""
}

// truth reads a boolean query parameter as the API does: present and not false.
func truth(q url.Values, name string) bool {
	v, ok := q[name]
	if !ok || len(v) == 0 {
		return false
	}
	switch strings.ToLower(v[0]) {
	case "false", "0":
		return false
	}
	return true
}
