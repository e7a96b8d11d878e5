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
	"io"
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
		gv, ok := h.groupVersion(strings.TrimPrefix(path, "/openapi/v3/"))
		if !ok {
			http.NotFound(w, r)
			return
		}
		if wantProto {
			contentType = v3Proto
		}
		body, err = h.cached(path+contentType, func() ([]byte, error) { return h.v3(gv, wantProto) })
		if r.URL.Query().Get("hash") == h.hash(gv) {
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

// served lists the group versions in the scheme, sorted.
func (h *Handler) served() []schema.GroupVersion {
	var all []schema.GroupVersion
	add := func(gv schema.GroupVersion) {
		if !slices.Contains(all, gv) {
			all = append(all, gv)
		}
	}
	for _, d := range h.scheme.All() {
		for _, v := range d.Versions() {
			add(v.GVK().GroupVersion())
		}
		for _, v := range d.Served {
			add(schema.GroupVersion{Group: v.Group, Version: v.Version})
		}
	}
	slices.SortFunc(all, func(a, b schema.GroupVersion) int { return strings.Compare(a.String(), b.String()) })
	return all
}

func docPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "api/" + gv.Version
	}
	return "apis/" + gv.String()
}

func (h *Handler) groupVersion(path string) (schema.GroupVersion, bool) {
	for _, gv := range h.served() {
		if docPath(gv) == path {
			return gv, true
		}
	}
	return schema.GroupVersion{}, false
}

// hash changes with what the document of a group version would say.
func (h *Handler) hash(gv schema.GroupVersion) string {
	sum := sha512.New()
	sum.Write(definitions)
	fmt.Fprint(sum, h.version, gv)
	for _, k := range h.kinds(gv) {
		fmt.Fprint(sum, k.gvk, k.def.Resource, k.def.Subresources, k.def.Status)
		if d := k.def.Dynamic; d != nil {
			fmt.Fprint(sum, d.Digest)
		}
	}
	return fmt.Sprintf("%X", sum.Sum(nil)[:32])
}

func (h *Handler) index() ([]byte, error) {
	type entry struct {
		URL string `json:"serverRelativeURL"`
	}
	paths := map[string]entry{}
	for _, gv := range h.served() {
		paths[docPath(gv)] = entry{"/openapi/v3/" + docPath(gv) + "?hash=" + h.hash(gv)}
	}
	return json.Marshal(map[string]any{"paths": paths})
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

// load reads the schemas; it is called with the lock held.
func (h *Handler) load() error {
	if h.schemas != nil {
		return nil
	}
	z, err := gzip.NewReader(bytes.NewReader(definitions))
	if err != nil {
		return fmt.Errorf("cannot read the schemas: %w", err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		return fmt.Errorf("cannot read the schemas: %w", err)
	}
	return json.Unmarshal(data, &h.schemas)
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

// withKinds adds x-kubernetes-group-version-kind to the schema of a kind.
func withKinds(s json.RawMessage, gvks []schema.GroupVersionKind) (json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(s, &m); err != nil {
		return nil, err
	}
	ext, err := json.Marshal(kindsExtension(gvks...))
	if err != nil {
		return nil, err
	}
	m["x-kubernetes-group-version-kind"] = ext
	return json.Marshal(m)
}

func kindsExtension(gvks ...schema.GroupVersionKind) []map[string]string {
	out := make([]map[string]string, len(gvks))
	for i, k := range gvks {
		out[i] = map[string]string{"group": k.Group, "version": k.Version, "kind": k.Kind}
	}
	return out
}

// collect gathers the schemas and paths of a group version.
func (h *Handler) collect(gv schema.GroupVersion, schemas map[string]json.RawMessage, paths map[string]any, v3 bool) error {
	if err := h.load(); err != nil {
		return err
	}
	roots := []string{metaPrefix + "Status", metaPrefix + "DeleteOptions", metaPrefix + "Patch"}
	kinds := h.kinds(gv)
	for i := range kinds {
		if d := kinds[i].def.Dynamic; d != nil && d.Model != nil {
			if err := kinds[i].describe(schemas, v3); err != nil {
				return err
			}
			roots = append(roots, metaPrefix+"ObjectMeta", metaPrefix+"ListMeta")
		}
	}
	for _, k := range kinds {
		roots = append(roots, k.model)
		if k.list != "" {
			roots = append(roots, k.list)
		}
		if k.def.Scale != nil {
			roots = append(roots, scaleModel)
		}
		for _, s := range k.def.Subresources {
			if m := subresourceModel(s); m != "" {
				roots = append(roots, m)
			}
		}
	}
	h.closure(roots, schemas)
	for _, k := range kinds {
		if k.def.Dynamic != nil {
			addPaths(paths, k, gv, v3)
			continue
		}
		tags := map[string]schema.GroupVersionKind{k.model: k.gvk}
		if k.list != "" {
			tags[k.list] = gv.WithKind(k.listKind)
		}
		for model, gvk := range tags {
			s, ok := schemas[model]
			if !ok {
				return fmt.Errorf("cannot describe %s: there is no schema %s", gvk, model)
			}
			tagged, err := withKinds(s, []schema.GroupVersionKind{gvk})
			if err != nil {
				return fmt.Errorf("cannot describe %s: %w", gvk, err)
			}
			schemas[model] = tagged
		}
		addPaths(paths, k, gv, v3)
	}
	return nil
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

// withoutOneOf is the v2 form of a value that may be a string or a number: v2
// has no oneOf, and upstream says "string".
func withoutOneOf(raw json.RawMessage) (json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	delete(m, "oneOf")
	m["type"] = json.RawMessage(`"string"`)
	return json.Marshal(m)
}

func (h *Handler) info() map[string]string {
	return map[string]string{"title": "Kubernetes", "version": h.version}
}

func (h *Handler) v3(gv schema.GroupVersion, asProto bool) ([]byte, error) {
	schemas, paths := map[string]json.RawMessage{}, map[string]any{}
	if err := h.collect(gv, schemas, paths, true); err != nil {
		return nil, err
	}
	doc, err := json.Marshal(map[string]any{
		"openapi": "3.0.0", "info": h.info(), "paths": paths,
		"components": map[string]any{
			"schemas": schemas,
			"securitySchemes": map[string]any{"BearerToken": map[string]string{
				"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header",
			}},
		},
	})
	if err != nil || !asProto {
		return doc, err
	}
	parsed, err := openapiv3.ParseDocument(doc)
	if err != nil {
		return nil, fmt.Errorf("cannot encode OpenAPI v3: %w", err)
	}
	return proto.Marshal(parsed)
}

func (h *Handler) v2(asProto bool) ([]byte, error) {
	schemas, paths := map[string]json.RawMessage{}, map[string]any{}
	for _, gv := range h.served() {
		if err := h.collect(gv, schemas, paths, false); err != nil {
			return nil, err
		}
	}
	for name, raw := range schemas {
		if bytes.Contains(raw, []byte(`"oneOf":`)) {
			plain, err := withoutOneOf(raw)
			if err != nil {
				return nil, fmt.Errorf("cannot describe %s: %w", name, err)
			}
			schemas[name] = plain
		}
	}
	doc, err := json.Marshal(map[string]any{
		"swagger": "2.0", "info": h.info(), "paths": paths, "definitions": schemas,
		"securityDefinitions": map[string]any{"BearerToken": map[string]string{
			"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header",
		}},
	})
	if err != nil {
		return nil, err
	}
	doc = bytes.ReplaceAll(doc, []byte(refPrefix), []byte("#/definitions/"))
	if !asProto {
		return doc, nil
	}
	return asProtoV2(doc)
}

func asProtoV2(doc []byte) ([]byte, error) {
	parsed, err := openapiv2.ParseDocument(doc)
	if err != nil {
		return nil, fmt.Errorf("cannot encode OpenAPI v2: %w", err)
	}
	return proto.Marshal(parsed)
}
