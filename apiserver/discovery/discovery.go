// Package discovery answers what groups, versions and resources there are, from
// the definitions in the scheme: the old documents, one a group version, and the
// aggregated one that newer clients ask for.
package discovery

import (
	"cmp"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"sagong/object"
)

// Discovery renders documents once, and again after Changed.
type Discovery struct {
	scheme *object.Scheme
	// address is what APIVersions tells clients of the server's address.
	address string
	// foreign lists what other servers serve; nil for nothing.
	foreign func() []Foreign

	mu   sync.Mutex
	docs map[string]document
}

type document struct {
	object runtime.Object
	body   []byte // in JSON
	etag   string
}

// New describes what is in the scheme. address is "host:port" of the server.
func New(s *object.Scheme, address string) *Discovery {
	return &Discovery{scheme: s, address: address}
}

// Changed makes the next answer look at the scheme again.
func (d *Discovery) Changed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.docs = nil
}

// ServeHTTP answers /api, /apis and what lies one and two elements below; other
// paths, and groups that do not exist, are 404.
func (d *Discovery) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimSuffix(r.URL.Path, "/")
	form, contentType, whole, ok := negotiate(r.Header.Get("Accept"), path == "/api" || path == "/apis")
	if whole {
		path += "#aggregated"
	}
	doc, known := d.document(path)
	if !known {
		http.NotFound(w, r)
		return
	}
	if !ok {
		notAcceptable(w)
		return
	}
	if doc.etag != "" {
		w.Header().Set("Vary", "Accept") // as upstream, of these alone
		w.Header().Set("ETag", doc.etag)
		w.Header().Set("Cache-Control", "public")
		if r.Header.Get("If-None-Match") == doc.etag {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	body, err := doc.in(form)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(body)
}

// Paths are those that ServeHTTP answers.
func (d *Discovery) Paths() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.docs == nil {
		d.docs = d.render()
	}
	var paths []string
	for p := range d.docs {
		if !strings.Contains(p, "#") {
			paths = append(paths, p)
		}
	}
	return paths
}

func (d *Discovery) document(path string) (document, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.docs == nil {
		d.docs = d.render()
	}
	doc, ok := d.docs[path]
	return doc, ok
}

// served is one group version with its resources.
type served struct {
	group, version string
	resources      []metav1.APIResource
	aggregated     []apidiscoveryv2.APIResourceDiscovery
}

func (d *Discovery) render() map[string]document {
	byGV := map[schema.GroupVersion]*served{}
	var groups []string
	versions := map[string][]string{}
	at := func(group, v string) *served {
		gv := schema.GroupVersion{Group: group, Version: v}
		if s := byGV[gv]; s != nil {
			return s
		}
		if _, known := versions[group]; !known {
			groups = append(groups, group)
		}
		versions[group] = append(versions[group], v)
		byGV[gv] = &served{group: group, version: v}
		return byGV[gv]
	}
	all := slices.Clone(d.scheme.All())
	slices.SortStableFunc(all, func(a, b *object.Definition) int { return cmp.Compare(a.Resource, b.Resource) })
	priority := map[string]int32{first: math.MaxInt32}
	for _, def := range all {
		for _, v := range def.Versions() {
			at(v.Group, v.Version).add(v, v.Kind)
		}
		for _, v := range def.Served {
			kind := v.Kind
			if kind == "" {
				kind = def.Kind
			}
			at(v.Group, v.Version).add(def, kind)
		}
	}
	for _, vs := range versions {
		// The most stable and the newest first: v2, v1, v1beta1.
		slices.SortFunc(vs, func(a, b string) int { return -version.CompareKubeAwareVersionStrings(a, b) })
	}
	for _, g := range groups {
		if g != first {
			priority[g], _ = Priorities(schema.GroupVersion{Group: g})
		}
	}
	stale := map[schema.GroupVersion]bool{}
	for _, f := range d.others() {
		priority[f.Group] = max(priority[f.Group], f.GroupPriority)
		s := at(f.Group, f.Version)
		*s = served{group: f.Group, version: f.Version}
		s.take(f.Resources)
		stale[schema.GroupVersion{Group: f.Group, Version: f.Version}] = f.Stale
	}
	docs := map[string]document{}
	put := func(path string, v runtime.Object, etag bool) {
		body, err := json.Marshal(v)
		if err != nil {
			panic(fmt.Sprintf("discovery: cannot encode %s: %v", path, err))
		}
		doc := document{object: v, body: body}
		if etag {
			sum := sha512.Sum512(body)
			doc.etag = fmt.Sprintf("\"%X\"", sum)
		}
		docs[path] = doc
	}
	put("/api", &metav1.APIVersions{
		TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: versions[""],
		ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: d.address}},
	}, false)
	list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{}}
	core := apidiscoveryv2.APIGroupDiscoveryList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/v2"}}
	named := core
	slices.SortFunc(groups, func(a, b string) int { return cmp.Or(cmp.Compare(priority[b], priority[a]), cmp.Compare(a, b)) })
	for _, g := range groups {
		group := metav1.APIGroup{Name: g}
		agg := apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: g}}
		for _, v := range versions[g] {
			gv := schema.GroupVersion{Group: g, Version: v}
			s := byGV[gv]
			group.Versions = append(group.Versions, metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: v})
			fresh := apidiscoveryv2.DiscoveryFreshnessCurrent
			if stale[gv] {
				fresh = apidiscoveryv2.DiscoveryFreshnessStale
			}
			agg.Versions = append(agg.Versions, apidiscoveryv2.APIVersionDiscovery{Version: v, Resources: s.aggregated, Freshness: fresh})
			path := "/apis/" + gv.String()
			if g == "" {
				path = "/api/" + v
			}
			put(path, &metav1.APIResourceList{
				TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String(), APIResources: s.resources,
			}, false)
		}
		if g == "" {
			core.Items = append(core.Items, agg)
			continue
		}
		group.PreferredVersion = group.Versions[0]
		list.Groups = append(list.Groups, group)
		named.Items = append(named.Items, agg)
		single := group
		single.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
		put("/apis/"+g, &single, false)
	}
	put("/apis", &list, false)
	put("/api#aggregated", &core, true)
	put("/apis#aggregated", &named, true)
	return docs
}

// customVerbs are in the order in which upstream lists them.
var customVerbs = []string{"delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"}

var storedVerbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

func (s *served) add(def *object.Definition, kind string) {
	verbs := def.Verbs
	if verbs == nil {
		verbs = storedVerbs
		if def.Dynamic != nil {
			verbs = customVerbs
		}
		if def.Virtual {
			verbs = []string{"create"}
		}
		if def.Dynamic != nil && def.Dynamic.Terminating {
			verbs = []string{"delete", "deletecollection", "get", "list", "watch"}
		}
	}
	res := metav1.APIResource{
		Name: def.Resource, SingularName: def.Singular, Namespaced: def.Namespaced, Kind: kind,
		Verbs: verbs, ShortNames: def.ShortNames, Categories: def.Categories,
	}
	if slices.Contains(verbs, "watch") { // it is stored
		res.StorageVersionHash = storageHash(def)
	}
	scope := apidiscoveryv2.ScopeCluster
	if def.Namespaced {
		scope = apidiscoveryv2.ScopeNamespace
	}
	agg := apidiscoveryv2.APIResourceDiscovery{
		Resource: def.Resource, Scope: scope, SingularResource: def.Singular, Verbs: verbs, ShortNames: def.ShortNames, Categories: def.Categories,
		ResponseKind: s.responseKind(def, res),
	}
	s.resources = append(s.resources, res)
	sub := func(name, group, version, subKind string, verbs []string) {
		r := metav1.APIResource{Name: def.Resource + "/" + name, Namespaced: def.Namespaced, Kind: subKind, Verbs: verbs}
		if group != s.group || version != s.version {
			r.Group, r.Version = group, version
		}
		s.resources = append(s.resources, r)
		agg.Subresources = append(agg.Subresources, apidiscoveryv2.APISubresourceDiscovery{
			Subresource: name, Verbs: verbs, ResponseKind: s.responseKind(def, r),
		})
	}
	subs := slices.Clone(def.Subresources)
	if def.Status && !slices.ContainsFunc(subs, func(x object.Subresource) bool { return x.Name == "status" }) {
		subs = append(subs, object.Subresource{Name: "status", Group: s.group, Version: s.version, Kind: kind, Verbs: []string{"get", "patch", "update"}})
	}
	if def.Scale != nil && !slices.ContainsFunc(subs, func(x object.Subresource) bool { return x.Name == "scale" }) {
		subs = append(subs, object.Subresource{Name: "scale", Group: "autoscaling", Version: "v1", Kind: "Scale", Verbs: []string{"get", "patch", "update"}})
	}
	if def.Dynamic == nil { // of the others status is first
		slices.SortFunc(subs, func(a, b object.Subresource) int { return cmp.Compare(a.Name, b.Name) })
	}
	for _, x := range subs {
		if x.Kind == def.Kind {
			x.Group, x.Version, x.Kind = s.group, s.version, kind
		}
		sub(x.Name, x.Group, x.Version, x.Kind, x.Verbs)
	}
	s.aggregated = append(s.aggregated, agg)
}

func (s *served) responseKind(def *object.Definition, r metav1.APIResource) *metav1.GroupVersionKind {
	k := kindOf(r)
	if def.Dynamic != nil && k.Version == "" {
		k.Group, k.Version = s.group, s.version
	}
	return k
}

// storageHash tells clients when the stored version of a resource changes, in
// upstream's form (apiserver/pkg/endpoints/discovery/storageversionhash.go).
func storageHash(def *object.Definition) string {
	stored := def.Version
	if def.Dynamic != nil {
		stored = def.Dynamic.Storage
	}
	sum := sha256.Sum256([]byte(def.Group + "/" + stored + "/" + def.Kind))
	return base64.StdEncoding.EncodeToString(sum[:8])
}
