package openapi

import (
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// document is one of v3's, a part of v2's.
type document struct {
	path string // "apis/apps/v1"
	// gv is of the kinds it describes, if any, all made at run time when custom.
	gv     schema.GroupVersion
	custom bool
	// fixed are operations on no kind.
	fixed []route
}

// served lists the group versions in the scheme, sorted, and whether all their
// kinds were made at run time.
func (h *Handler) served() ([]schema.GroupVersion, map[schema.GroupVersion]bool) {
	custom := map[schema.GroupVersion]bool{}
	add := func(gv schema.GroupVersion, dynamic bool) {
		if is, known := custom[gv]; !known || is {
			custom[gv] = dynamic
		}
	}
	for _, d := range h.scheme.All() {
		for _, v := range d.Versions() {
			add(v.GVK().GroupVersion(), d.Dynamic != nil)
		}
		for _, v := range d.Served {
			add(schema.GroupVersion{Group: v.Group, Version: v.Version}, false)
		}
	}
	return slices.SortedFunc(maps.Keys(custom), func(a, b schema.GroupVersion) int { return strings.Compare(a.String(), b.String()) }), custom
}

func docPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "api/" + gv.Version
	}
	return "apis/" + gv.String()
}

// documents lists all there are: of group versions, groups, and what is no resource.
func (h *Handler) documents() []document {
	all := slices.Clone(unversioned)
	served, custom := h.served()
	for _, gv := range served {
		d := document{path: docPath(gv), gv: gv, custom: custom[gv]}
		if !d.custom {
			p := placeOf(gv)
			d.fixed = []route{discovery(p.base, "get"+p.names+"APIResources", p.label, "get available resources", "APIResourceList")}
			if group := "apis/" + gv.Group; gv.Group != "" && !slices.ContainsFunc(all, func(d document) bool { return d.path == group }) {
				name := strings.TrimSuffix(gv.Group, ".k8s.io")
				all = append(all, document{path: group, fixed: []route{
					discovery("/"+group, "get"+identifier(name, true)+"APIGroup", identifier(name, false), "get information of a group", "APIGroup"),
				}})
			}
		}
		all = append(all, d)
	}
	return all
}

// document finds one by its path, without slash at the ends.
func (h *Handler) document(path string) (document, bool) {
	all := h.documents()
	i := slices.IndexFunc(all, func(d document) bool { return d.path == path })
	if i < 0 {
		return document{}, false
	}
	return all[i], true
}

func discovery(path, id, tag, about, model string) route {
	types := []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}
	return route{path: path + "/", method: "get", id: id, tag: tag, about: about, consumes: types, produces: types, answer: metaPrefix + model}
}

// unversioned are the documents of what is always there and has no version.
var unversioned = []document{
	{path: "api", fixed: []route{discovery("/api", "getCoreAPIVersions", "core", "get available API versions", "APIVersions")}},
	{path: "apis", fixed: []route{discovery("/apis", "getAPIVersions", "apis", "get available API versions", "APIGroupList")}},
	{path: "version", fixed: []route{{
		path: "/version/", method: "get", id: "getCodeVersion", tag: "version", about: "get the version information for this server",
		consumes: []string{jsonType}, produces: []string{jsonType}, answer: "io.k8s.apimachinery.pkg.version.Info",
	}}},
	{path: ".well-known/openid-configuration", fixed: []route{{
		path: "/.well-known/openid-configuration/", method: "get", id: "getServiceAccountIssuerOpenIDConfiguration", tag: "WellKnown",
		about: "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'", produces: []string{jsonType}, answer: text,
	}}},
	{path: "openid/v1/jwks", fixed: []route{{
		path: "/openid/v1/jwks/", method: "get", id: "getServiceAccountIssuerOpenIDKeyset", tag: "openid",
		about:    "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
		produces: []string{"application/jwk-set+json"}, answer: text,
	}}},
}

// form is counted up when the same kinds are described in another way: what has a
// hash is kept by clients for ever.
const form = 2

var definitionsSum = sync.OnceValue(func() [sha512.Size]byte { return sha512.Sum512(definitions) })

// hash changes with what a document would say.
func (h *Handler) hash(d document) string {
	sum := sha512.New()
	fmt.Fprint(sum, form, definitionsSum(), h.version, d.path)
	for _, k := range h.kinds(d.gv) {
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
	for _, d := range h.documents() {
		paths[d.path] = entry{"/openapi/v3/" + d.path + "?hash=" + h.hash(d)}
	}
	return json.Marshal(map[string]any{"paths": paths})
}

// operations lists those of a document, and adds the schemas of its custom kinds.
func (h *Handler) operations(d document, schemas map[string]json.RawMessage, v3 bool) ([]route, error) {
	routes := slices.Clone(d.fixed)
	for _, k := range h.kinds(d.gv) {
		if k.def.Dynamic != nil {
			if k.def.Dynamic.Model == nil {
				continue
			}
			if err := k.describe(schemas, v3); err != nil {
				return nil, err
			}
		}
		routes = append(routes, k.routes()...)
	}
	return routes, nil
}

// collect adds the schemas that operations name, and all that those refer to.
func (h *Handler) collect(routes []route, custom bool, schemas map[string]json.RawMessage) error {
	var roots []string
	for _, r := range routes {
		for _, model := range []string{r.answer, r.body} {
			if _, has := h.schemas[model]; has {
				roots = append(roots, model)
			} else if _, has := schemas[model]; !has && model != "" && model != text {
				return fmt.Errorf("cannot describe %s: there is no schema %s", r.id, model)
			}
		}
	}
	if custom {
		roots = append(roots, metaPrefix+"ObjectMeta", metaPrefix+"ListMeta")
	}
	h.closure(roots, schemas)
	return nil
}
