// Package openapi publishes the schemas and paths of what is served, as OpenAPI
// v3 (one document a group version) and v2 (one for all). The schemas are made
// from the Go types when k8s.io/api is upgraded (see generate); a document is
// put together when it is first asked for, so that none costs a start anything.
package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/object"
)

//go:embed definitions.json.gz
var definitions []byte

// Handler serves /openapi/v2 and /openapi/v3 and what lies below.
type Handler struct {
	scheme  *object.Scheme
	version string // of the API, for the documents' info

	mu      sync.Mutex
	schemas map[string]json.RawMessage // by model name; nil until needed
	v2Fixed *part                      // of what is not custom; nil until needed
	docs    map[string][]byte          // rendered, by path
}

// New describes what is in the scheme.
func New(s *object.Scheme, version string) *Handler {
	return &Handler{scheme: s, version: version, docs: map[string][]byte{}}
}

// Changed makes the next answers look at the scheme again.
func (h *Handler) Changed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.docs = map[string][]byte{}
}

const (
	jsonType = "application/json"
	// Clients ask with an @, which no media type may hold: they parse the answer's.
	v2Proto = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	v3Proto = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
)

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimSuffix(r.URL.Path, "/")
	wantProto := wantsProto(r)
	var body []byte
	var err error
	contentType := jsonType
	switch {
	case path == "/openapi/v2":
		if wantProto {
			contentType = v2Proto
		}
		body, err = h.cached(path+contentType, func() ([]byte, error) { return h.v2(wantProto) })
	case path == "/openapi/v3":
		body, err = h.cached(path, h.index)
	case strings.HasPrefix(path, "/openapi/v3/"):
		d, ok := h.document(strings.TrimPrefix(path, "/openapi/v3/"))
		if !ok {
			http.NotFound(w, r)
			return
		}
		if wantProto {
			contentType = v3Proto
		}
		body, err = h.cached(path+contentType, func() ([]byte, error) { return h.v3(d, wantProto) })
		if r.URL.Query().Get("hash") == h.hash(d) {
			// A document under its hash never changes.
			w.Header().Set("Cache-Control", "public, immutable")
			w.Header().Set("Expires", "Fri, 31 Dec 2100 23:59:59 GMT")
		}
	default:
		http.NotFound(w, r)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	send(w, r, contentType, body)
}

// ServeV2 answers with another OpenAPI v2 document, given as JSON, in the form
// that a request asks for.
func ServeV2(w http.ResponseWriter, r *http.Request, doc []byte) {
	contentType := jsonType
	if wantsProto(r) {
		contentType = v2Proto
		var err error
		if doc, err = asProtoV2(doc); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	send(w, r, contentType, doc)
}

// wantsProto says whether a client takes the protobuf form. Older ones write its
// type with a dot for the @.
func wantsProto(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return strings.Contains(strings.ReplaceAll(accept, "@", "."), "proto-openapi.spec.") && strings.Contains(accept, "+protobuf")
}

func send(w http.ResponseWriter, r *http.Request, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Add("Vary", "Accept, Accept-Encoding")
	w.Header().Set("ETag", etag(body))
	if r.Header.Get("If-None-Match") == etag(body) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") && len(body) > 128<<10 {
		w.Header().Set("Content-Encoding", "gzip")
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		_, _ = z.Write(body)
		_ = z.Close()
		return
	}
	_, _ = w.Write(body)
}

func etag(body []byte) string {
	sum := sha512.Sum512(body)
	return fmt.Sprintf("\"%X\"", sum[:32])
}

func (h *Handler) cached(key string, make func() ([]byte, error)) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if doc, ok := h.docs[key]; ok {
		return doc, nil
	}
	doc, err := make()
	if err == nil {
		h.docs[key] = doc
	}
	return doc, err
}

// kind is a kind as served in one version.
type kind struct {
	def      *object.Definition
	gvk      schema.GroupVersionKind
	model    string
	list     string // model of the list, "" for none
	listKind string
}

func (h *Handler) kinds(gv schema.GroupVersion) []kind {
	var all []kind
	add := func(d *object.Definition, gvk schema.GroupVersionKind, obj, list any) {
		k := kind{def: d, gvk: gvk, model: modelName(obj)}
		if list != nil {
			k.list, k.listKind = modelName(list), reflect.TypeOf(list).Elem().Name()
		}
		all = append(all, k)
	}
	for _, d := range h.scheme.All() {
		if d.Dynamic != nil {
			for _, v := range d.Versions() {
				if v.GVK().GroupVersion() == gv {
					all = append(all, kind{def: v, gvk: v.GVK(), listKind: v.Dynamic.ListKind})
				}
			}
			continue
		}
		if d.GVK().GroupVersion() == gv {
			var list any
			if d.NewList != nil {
				list = d.NewList()
			}
			add(d, d.GVK(), d.New(), list)
		}
		for _, v := range d.Served {
			if v.Group == gv.Group && v.Version == gv.Version {
				name := v.Kind
				if name == "" {
					name = d.Kind
				}
				var list any
				if v.NewList != nil {
					list = v.NewList()
				}
				add(d, gv.WithKind(name), v.New(), list)
			}
		}
	}
	return all
}

// modelName is the name that a type's schema has.
func modelName(o any) string {
	if n, ok := o.(interface{ OpenAPIModelName() string }); ok {
		return n.OpenAPIModelName()
	}
	t := reflect.TypeOf(o).Elem()
	// k8s.io/api/core/v1.Pod is io.k8s.api.core.v1.Pod.
	host, rest, _ := strings.Cut(t.PkgPath(), "/")
	parts := strings.Split(host, ".")
	slices.Reverse(parts)
	return strings.Join(parts, ".") + "." + strings.ReplaceAll(rest, "/", ".") + "." + t.Name()
}

const refPrefix = "#/components/schemas/"

var refPattern = regexp.MustCompile(`"\$ref":"#/components/schemas/([^"]+)"`)

// closure collects the schemas that names and all they refer to need.
func (h *Handler) closure(names []string, into map[string]json.RawMessage) {
	for len(names) > 0 {
		name := names[len(names)-1]
		names = names[:len(names)-1]
		s, ok := h.schemas[name]
		if _, done := into[name]; done || !ok {
			continue
		}
		into[name] = s
		for _, m := range refPattern.FindAllSubmatch(s, -1) {
			names = append(names, string(m[1]))
		}
	}
}

const kindsKey = "x-kubernetes-group-version-kind"

func kindsExtension(gvks ...schema.GroupVersionKind) []any {
	out := make([]any, len(gvks))
	for i, k := range gvks {
		out[i] = map[string]any{"group": k.Group, "version": k.Version, "kind": k.Kind}
	}
	return out
}

// describe adds the schemas of a kind made at run time.
func (k *kind) describe(schemas map[string]json.RawMessage, v3 bool) error {
	m, err := k.def.Dynamic.Model()
	if err != nil {
		return fmt.Errorf("cannot describe %s: %w", k.gvk, err)
	}
	k.model, k.list = m.Name, m.List
	schemas[m.Name], schemas[m.List] = m.V2, m.ListV2
	if v3 {
		schemas[m.Name], schemas[m.List] = m.V3, m.ListV3
	}
	return nil
}

// bearer is how clients identify themselves.
var bearer = map[string]any{"BearerToken": map[string]string{
	"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header",
}}

func (h *Handler) v3(d document, asProto bool) ([]byte, error) {
	if err := h.load(); err != nil {
		return nil, err
	}
	schemas := map[string]json.RawMessage{}
	routes, err := h.operations(d, schemas, true)
	if err != nil {
		return nil, err
	}
	if err := h.collect(routes, d.custom, schemas); err != nil {
		return nil, err
	}
	info, components := h.info(), map[string]any{"schemas": schemas, "securitySchemes": bearer}
	if d.custom {
		info = map[string]string{"title": "Kubernetes CRD Swagger", "version": "v0.1.0"}
		delete(components, "securitySchemes")
	}
	doc, err := json.Marshal(map[string]any{"openapi": "3.0.0", "info": info, "paths": pathsV3(routes), "components": components})
	if err != nil || !asProto {
		return doc, err
	}
	parsed, err := openapiv3.ParseDocument(doc)
	if err != nil {
		return nil, fmt.Errorf("cannot encode OpenAPI v3: %w", err)
	}
	return proto.Marshal(parsed)
}

func (h *Handler) info() map[string]string {
	return map[string]string{"title": "Kubernetes", "version": h.version}
}

// part is some of a v2 document.
type part struct {
	Swagger     string                     `json:"swagger"`
	Info        map[string]string          `json:"info"`
	Paths       map[string]json.RawMessage `json:"paths"`
	Parameters  map[string]json.RawMessage `json:"parameters"`
	Definitions map[string]json.RawMessage `json:"definitions"`
	Security    []any                      `json:"security"`
	Bearer      map[string]any             `json:"securityDefinitions"`
}

// v2 puts what custom kinds say beside the rest, which never changes.
func (h *Handler) v2(asProto bool) ([]byte, error) {
	if err := h.load(); err != nil {
		return nil, err
	}
	if h.v2Fixed == nil {
		fixed, err := h.v2Part(false)
		if err != nil {
			return nil, err
		}
		h.v2Fixed = fixed
	}
	all, err := h.v2Part(true)
	if err != nil {
		return nil, err
	}
	maps.Copy(all.Paths, h.v2Fixed.Paths)
	maps.Copy(all.Parameters, h.v2Fixed.Parameters)
	maps.Copy(all.Definitions, h.v2Fixed.Definitions)
	all.Swagger, all.Info, all.Bearer = "2.0", h.info(), bearer
	all.Security = []any{map[string][]string{"BearerToken": {}}}
	doc, err := json.Marshal(all)
	if err != nil || !asProto {
		return doc, err
	}
	return asProtoV2(doc)
}

// v2Part describes all custom kinds, or all else.
func (h *Handler) v2Part(custom bool) (*part, error) {
	schemas := map[string]json.RawMessage{}
	var routes []route
	for _, d := range h.documents() {
		if d.custom != custom {
			continue
		}
		more, err := h.operations(d, schemas, false)
		if err != nil {
			return nil, err
		}
		routes = append(routes, more...)
	}
	p := &part{Definitions: schemas}
	var err error
	if p.Paths, p.Parameters, err = pathsV2(routes); err != nil {
		return nil, err
	}
	if !custom {
		// What custom kinds refer to is there, too.
		if err := h.collect(routes, true, schemas); err != nil {
			return nil, err
		}
		err = forV2(schemas)
	}
	for name, s := range schemas {
		schemas[name] = bytes.ReplaceAll(s, []byte(refPrefix), []byte(refV2))
	}
	return p, err
}

func asProtoV2(doc []byte) ([]byte, error) {
	parsed, err := openapiv2.ParseDocument(doc)
	if err != nil {
		return nil, fmt.Errorf("cannot encode OpenAPI v2: %w", err)
	}
	return proto.Marshal(parsed)
}
