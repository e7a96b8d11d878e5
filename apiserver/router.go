package apiserver

import (
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"sagong/apiserver/resource"
	"sagong/object"
)

// Before the handlers of built-in kinds and of discovery upstream has a router
// (go-restful) that looks at methods and media types in its own way and in its
// own words. Custom kinds, /apis and /apis/GROUP are handled without it.

var (
	anything     = []string{"*/*"}
	mediaTypes   = []string{mediaJSON, mediaYAML, mediaProtobuf, mediaCBOR}
	mediaStreams = []string{mediaJSON + ";stream=watch", mediaProtobuf + ";stream=watch", mediaCBORs}
	mediaLists   = append(slices.Clone(mediaTypes), mediaStreams...)
	mediaLogs    = append([]string{"text/plain"}, mediaTypes...)
	mediaPatches = []string{
		string(types.JSONPatchType), string(types.MergePatchType), string(types.StrategicMergePatchType),
		string(types.ApplyYAMLPatchType), string(types.ApplyCBORPatchType),
	}
)

// routed refuses a request to a route whose method it has, when it sends what the
// route does not consume (nil is anything) or takes nothing that it produces.
func routed(r *http.Request, consumes, produces []string) error {
	if consumes != nil && !consumed(r, consumes) {
		if r.ContentLength > 0 {
			return routerError(http.StatusUnsupportedMediaType, "415: Unsupported Media Type")
		}
		produces = nil // no route is left
	}
	accept := r.Header.Get("Accept")
	if produces != nil && (accept == "" || names(accept, produces) || names(accept, anything)) {
		return nil
	}
	return routerError(http.StatusNotAcceptable, "406: Not Acceptable\n\nAvailable representations: "+strings.Join(produces, ", "))
}

func consumed(r *http.Request, types []string) bool {
	sent := r.Header.Get("Content-Type")
	if sent == "" {
		return r.Method == http.MethodGet
	}
	return names(sent, types)
}

// names reports whether one of the media types in a header, without parameters,
// is among those given.
func names(header string, among []string) bool {
	for clause := range strings.SplitSeq(header, ",") {
		media, _, _ := strings.Cut(clause, ";")
		if slices.Contains(among, strings.TrimSpace(media)) {
			return true
		}
	}
	return false
}

func routerError(code int, text string) error {
	return apierrors.NewGenericServerResponse(code, "", schema.GroupResource{}, "", text, 0, false)
}

// routed is what the router says to a verb that the resource has.
func (q *request) routed(t resource.Target) error {
	if t.Custom() {
		return nil
	}
	var consumes []string
	produces := mediaTypes
	switch {
	case q.info.Verb == "patch":
		consumes = mediaPatches
	case t.Subresource == "log":
		produces = mediaLogs
	case q.info.Verb == "list", q.info.Verb == "watch":
		produces = mediaLists
	}
	return routed(q.r, consumes, produces)
}

// routedDiscovery is what the router says to a path of discovery.
func (q *request) routedDiscovery() error {
	if path := strings.TrimSuffix(q.info.Path, "/"); path != "/api" {
		if path == "/apis" || q.info.GV.Version == "" && q.info.GV.Group != "" || !q.belowBuiltin() {
			return nil
		}
		if !q.s.builtin(func(v schema.GroupVersion) bool { return v == q.info.GV }) {
			return routerError(http.StatusNotFound, "")
		}
	}
	if q.r.Method != http.MethodGet {
		return routerError(http.StatusMethodNotAllowed, "")
	}
	return routed(q.r, mediaTypes, mediaTypes)
}

// belowBuiltin reports whether the path lies below that of a built-in group.
func (q *request) belowBuiltin() bool {
	if q.info.GV.Group == "" {
		return strings.HasPrefix(q.info.Path, "/api/")
	}
	return q.s.builtin(func(v schema.GroupVersion) bool { return v.Group == q.info.GV.Group })
}

// builtin reports whether a group and version of a built-in kind is one that is
// looked for.
func (s *Server) builtin(is func(schema.GroupVersion) bool) bool {
	return slices.ContainsFunc(s.engine.Scheme().All(), func(d *object.Definition) bool {
		return d.Dynamic == nil && (is(d.GVK().GroupVersion()) || slices.ContainsFunc(d.Served, func(v object.ServedVersion) bool {
			return is(schema.GroupVersion{Group: v.Group, Version: v.Version})
		}))
	})
}
