package openapi

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientscheme "k8s.io/client-go/kubernetes/scheme"

	"sagong/object"
)

const (
	metaPrefix = "io.k8s.apimachinery.pkg.apis.meta.v1."
	scaleModel = "io.k8s.api.autoscaling.v1.Scale"

	statusModel = metaPrefix + "Status"
	patchModel  = metaPrefix + "Patch"
	deleteModel = metaPrefix + "DeleteOptions"
	eventModel  = metaPrefix + "WatchEvent"
	// text is what stands for a model where an answer is no object.
	text = "string"
)

// route is an operation, in the terms that both versions of OpenAPI share.
type route struct {
	path, method       string
	id, tag, about     string
	action             string // of which kind, empty for what is no resource
	gvk                schema.GroupVersionKind
	params             []param
	body               string // its model
	optional           bool   // the body
	consumes, produces []string
	answer             string // its model
	created, accepted  bool   // are further codes
}

// param is a parameter in the path or the query.
type param struct {
	name, in, kind, about string
}

func inPath(name, about string) param { return param{name, "path", "string", about} }

var pretty = param{"pretty", "query", "string", "If 'true', then the output is pretty printed. Defaults to 'false' unless the user-agent indicates a browser or command-line HTTP tool (curl and wget)."}

// paramsOf lists the fields of an options type that a query can hold. The texts are
// the type's own; asked for through an interface, they would keep those of all types
// in the program.
func paramsOf[T any](about func(T) map[string]string, without ...string) []param {
	var zero T
	texts, t := about(zero), reflect.TypeFor[T]()
	var all []param
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		kind := jsonKind(f.Type)
		if name != "" && kind != "" && !slices.Contains(without, name) {
			all = append(all, param{name, "query", kind, texts[name]})
		}
	}
	return all
}

func listParams(without ...string) []param {
	return append(paramsOf(metav1.ListOptions.SwaggerDoc, without...), pretty)
}

// connectParams are those of the ways into subresources, by kind.
func connectParams(kind string) []param {
	switch kind {
	case "PodAttachOptions":
		return paramsOf(corev1.PodAttachOptions.SwaggerDoc)
	case "PodExecOptions":
		return paramsOf(corev1.PodExecOptions.SwaggerDoc)
	case "PodPortForwardOptions":
		return paramsOf(corev1.PodPortForwardOptions.SwaggerDoc)
	case "PodProxyOptions":
		return paramsOf(corev1.PodProxyOptions.SwaggerDoc)
	case "NodeProxyOptions":
		return paramsOf(corev1.NodeProxyOptions.SwaggerDoc)
	case "ServiceProxyOptions":
		return paramsOf(corev1.ServiceProxyOptions.SwaggerDoc)
	}
	return nil
}

// jsonKind is empty for what a query cannot hold. Lists are said to be one of what
// they list.
func jsonKind(t reflect.Type) string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Int32, reflect.Int64:
		return "integer"
	case reflect.String:
		return "string"
	}
	return ""
}

// modelOf is the schema of a kind that clients know as a Go type, "" for none.
func modelOf(gvk schema.GroupVersionKind) string {
	t, ok := clientscheme.Scheme.AllKnownTypes()[gvk]
	if !ok {
		return ""
	}
	return modelName(reflect.New(t).Interface())
}

// identifier joins the parts of a text that letters, digits and _ make up, each
// but perhaps the first with a capital.
func identifier(s string, capital bool) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case !unicode.IsLetter(r) && r != '_' && (i == 0 || !unicode.IsDigit(r)):
			capital = true
			continue
		case capital:
			r = unicode.ToUpper(r)
		}
		capital = false
		b.WriteRune(r)
	}
	return b.String()
}

// title is a word with a capital.
func title(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// place is where a group version is served: its paths, and the names in its operations.
type place struct {
	base         string // "/apis/apps/v1"
	names, label string // "AppsV1", "apps_v1"
}

func placeOf(gv schema.GroupVersion) place {
	group := cmp.Or(strings.TrimSuffix(gv.Group, ".k8s.io"), "core")
	return place{"/" + docPath(gv), identifier(group, true) + identifier(gv.Version, true), identifier(group, false) + "_" + identifier(gv.Version, false)}
}

// routes lists the operations on a kind.
func (k kind) routes() []route {
	b := routesOf{kind: k, place: placeOf(k.gvk.GroupVersion()), of: k.gvk}
	b.resource()
	subs := slices.Clone(k.def.Subresources)
	if k.def.Status {
		subs = append(subs, object.Subresource{Name: "status", Group: k.gvk.Group, Version: k.gvk.Version, Kind: k.gvk.Kind, Verbs: []string{"get", "patch", "update"}})
	}
	if k.def.Scale != nil {
		subs = append(subs, object.Subresource{Name: "scale", Group: "autoscaling", Version: "v1", Kind: "Scale", Verbs: []string{"get", "patch", "update"}})
	}
	for _, s := range subs {
		b.subresource(s)
	}
	return b.all
}

// routesOf makes the routes of one kind.
type routesOf struct {
	kind
	place
	sub                      string                  // "" for the resource itself
	of                       schema.GroupVersionKind // of the subresource
	everyNamespace, withPath bool
	all                      []route
}

func (b *routesOf) custom() bool { return b.def.Dynamic != nil }

// mediaTypes are those of answers. Kinds made at run time have no protobuf form,
// and upstream says nothing of the one in CBOR. Lists are watches, too.
func (b *routesOf) mediaTypes(list bool) []string {
	all := []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor"}
	if b.custom() {
		return all[:2]
	}
	if list {
		all = append(all, "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch", "application/cbor-seq")
	}
	return all
}

// patches are the forms of patches. kubectl looks here for whether a kind can be
// patched strategically, which takes a Go type.
func (b *routesOf) patches() []string {
	if b.custom() {
		return []string{"application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"}
	}
	return []string{"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml", "application/apply-patch+cbor"}
}

// article is the one of a kind, between spaces; plurals have none.
func article(kind string) string {
	if strings.HasSuffix(kind, "s") && !strings.HasSuffix(kind, "ss") {
		return " "
	}
	if strings.ContainsRune("aeiou", unicode.ToLower(rune(kind[0]))) {
		return " an "
	}
	return " a "
}

// add adds an operation. The id is made of a verb, perhaps a part that follows the
// version, and a last part.
func (b *routesOf) add(method, path, verb, part, last string, r route) {
	r.method, r.path, r.tag = method, b.base+path, b.label
	namespaced := ""
	if strings.Contains(path, "{namespace}") {
		namespaced = "Namespaced"
		r.params = append(r.params, inPath("namespace", "object name and auth scope, such as for teams and projects"))
	}
	if strings.Contains(path, "{name}") {
		of := b.of.Kind
		if b.custom() {
			of = b.gvk.Kind
		}
		r.params = append(r.params, inPath("name", "name of the "+of))
	}
	if b.withPath {
		r.params = append(r.params, inPath("path", "path to the resource"))
		last += "WithPath"
	}
	if b.everyNamespace {
		last += "ForAllNamespaces"
	}
	r.id = verb + b.names + part + namespaced + b.gvk.Kind + title(b.sub) + last
	if r.gvk = b.of; b.custom() {
		r.gvk = b.gvk
	}
	if r.consumes == nil {
		r.consumes = []string{"*/*"}
		if b.custom() {
			r.consumes = []string{"application/json", "application/yaml"}
		}
	}
	if r.produces == nil {
		r.produces = b.mediaTypes(false)
	}
	b.all = append(b.all, r)
}

// resource adds the operations on the resource itself.
func (b *routesOf) resource() {
	verbs := b.def.Verbs
	if verbs == nil {
		verbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
		if b.def.Virtual {
			verbs = []string{"create"}
		}
	}
	can := func(verb string) bool { return slices.Contains(verbs, verb) }
	collection := "/" + b.def.Resource
	if b.def.Namespaced {
		collection = "/namespaces/{namespace}" + collection
		if can("list") {
			b.everyNamespace = true
			b.list("/"+b.def.Resource, can("watch"))
			b.everyNamespace = false
		}
	}
	if can("list") {
		b.list(collection, can("watch"))
	}
	if can("create") {
		b.create(collection)
	}
	if can("deletecollection") {
		r := route{about: "delete collection of " + b.gvk.Kind, action: "deletecollection", answer: statusModel, params: listParams()}
		if !b.custom() {
			r.params = listParams("watch", "allowWatchBookmarks")
			r.params = append(r.params, missing(r.params, paramsOf(metav1.DeleteOptions.SwaggerDoc))...)
			r.body, r.optional = deleteModel, true
		}
		b.add("delete", collection, "delete", "Collection", "", r)
	}
	b.item(collection+"/{name}", verbs)
	if can("watch") && !b.custom() && can("get") {
		watch := route{action: "watch", answer: eventModel, produces: b.mediaTypes(true), params: listParams(),
			about: "watch changes to an object of kind " + b.gvk.Kind + ". deprecated: use the 'watch' parameter with a list operation instead, filtered to a single item with the 'fieldSelector' parameter."}
		b.add("get", "/watch"+collection+"/{name}", "watch", "", "", watch)
	}
}

// missing are those of more that all lacks.
func missing(all, more []param) (add []param) {
	for _, p := range more {
		if !slices.ContainsFunc(all, func(o param) bool { return o.name == p.name }) {
			add = append(add, p)
		}
	}
	return add
}

func (b *routesOf) list(path string, watch bool) {
	r := route{about: "list objects of kind " + b.gvk.Kind, action: "list", answer: b.kind.list, produces: b.mediaTypes(true), params: listParams()}
	if watch && !b.custom() {
		r.about = "list or watch objects of kind " + b.gvk.Kind
	}
	b.add("get", path, "list", "", "", r)
	if watch && !b.custom() {
		r.about, r.action, r.answer = "watch individual changes to a list of "+b.gvk.Kind+". deprecated: use the 'watch' parameter with a list operation instead.", "watchlist", eventModel
		b.add("get", "/watch"+path, "watch", "", "List", r)
	}
}

func (b *routesOf) create(path string) {
	r := route{about: "create" + article(b.gvk.Kind) + b.gvk.Kind, action: "post", answer: b.model, body: b.model, created: true, accepted: true, params: append(paramsOf(metav1.CreateOptions.SwaggerDoc), pretty)}
	if b.sub != "" {
		r.about = "create " + b.sub + " of" + article(b.gvk.Kind) + b.gvk.Kind
	}
	b.add("post", path, "create", "", "", r)
}

// item adds the operations on an object or a part of one.
func (b *routesOf) item(path string, verbs []string) {
	of := " the specified " + b.gvk.Kind
	if b.sub != "" {
		of = " " + b.sub + " of" + of
	}
	for _, verb := range verbs {
		switch verb {
		case "get":
			r := route{about: "read" + of, action: "get", answer: b.model, params: []param{pretty}}
			if b.custom() {
				r.params = append(r.params, paramsOf(metav1.GetOptions.SwaggerDoc)...)
			}
			if b.sub == "log" {
				r.answer, r.produces = text, append([]string{"text/plain"}, b.mediaTypes(false)...)
				r.params = append(r.params, paramsOf(corev1.PodLogOptions.SwaggerDoc)...)
			}
			b.add("get", path, "read", "", "", r)
		case "update":
			b.add("put", path, "replace", "", "", route{about: "replace" + of, action: "put", answer: b.model, body: b.model, created: true, params: append(paramsOf(metav1.UpdateOptions.SwaggerDoc), pretty)})
		case "patch":
			b.add("patch", path, "patch", "", "", route{about: "partially update" + of, action: "patch", answer: b.model, body: patchModel, created: !b.custom(), consumes: b.patches(), params: append(paramsOf(metav1.PatchOptions.SwaggerDoc), pretty)})
		case "delete":
			r := route{about: "delete" + article(b.gvk.Kind) + b.gvk.Kind, action: "delete", answer: statusModel, body: deleteModel, optional: true, accepted: true, params: append(paramsOf(metav1.DeleteOptions.SwaggerDoc), pretty)}
			if b.def.DeleteReturnsObject() {
				r.answer = b.model
			}
			b.add("delete", path, "delete", "", "", r)
		}
	}
}

// subresource adds the operations on a part of an object.
func (b *routesOf) subresource(s object.Subresource) {
	own := b.model
	b.sub, b.of = s.Name, schema.GroupVersionKind{Group: s.Group, Version: s.Version, Kind: s.Kind}
	path := "/" + b.def.Resource + "/{name}/" + s.Name
	if b.def.Namespaced {
		path = "/namespaces/{namespace}" + path
	}
	switch {
	case strings.HasSuffix(s.Kind, "Options"):
		b.connect(path)
	default:
		if b.of != b.gvk {
			b.model = modelOf(b.of)
		}
		if slices.Contains(s.Verbs, "create") {
			b.create(path)
		}
		b.item(path, s.Verbs)
	}
	b.sub, b.of, b.model = "", b.gvk, own
}

// connect adds the ways into a subresource that is a stream or a proxy.
func (b *routesOf) connect(path string) {
	methods := []string{"GET", "POST"}
	if b.sub == "proxy" {
		methods = []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
	}
	params := connectParams(b.of.Kind)
	for _, withPath := range []bool{false, true} {
		if withPath && b.sub != "proxy" {
			break
		}
		b.withPath = withPath
		if withPath {
			path += "/{path}"
		}
		for _, m := range methods {
			b.add(strings.ToLower(m), path, "connect", title(strings.ToLower(m)), "", route{
				about: "connect " + m + " requests to " + b.sub + " of " + b.gvk.Kind, action: "connect", answer: text,
				params: slices.Clone(params), produces: []string{"*/*"},
			})
		}
	}
	b.withPath = false
}
