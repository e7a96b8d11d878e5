package openapi

import (
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	clientscheme "k8s.io/client-go/kubernetes/scheme"

	"sagong/object"
)

const (
	metaPrefix = "io.k8s.apimachinery.pkg.apis.meta.v1."
	scaleModel = "io.k8s.api.autoscaling.v1.Scale"
)

// subresourceModel is the schema of a subresource's body, "" when it has none
// of its own (logs, streams).
func subresourceModel(s object.Subresource) string {
	gvk := schema.GroupVersionKind{Group: s.Group, Version: s.Version, Kind: s.Kind}
	t, ok := clientscheme.Scheme.AllKnownTypes()[gvk]
	if !ok || strings.HasSuffix(s.Kind, "Options") {
		return ""
	}
	return modelName(reflect.New(t).Interface())
}

// addPaths adds the operations on a kind.
func addPaths(paths map[string]any, k kind, gv schema.GroupVersion, v3 bool) {
	base := "/apis/" + gv.String()
	if gv.Group == "" {
		base = "/api/" + gv.Version
	}
	o := operations{kind: k, gv: gv, v3: v3}
	collection := base + "/" + k.def.Resource
	if k.def.Namespaced {
		if k.list != "" {
			paths[collection] = o.item("all", "list")
		}
		collection = base + "/namespaces/{namespace}/" + k.def.Resource
	}
	verbs := k.def.Verbs
	if verbs == nil {
		verbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
		if k.def.Virtual {
			verbs = []string{"create"}
		}
	}
	paths[collection] = o.item("collection", verbs...)
	if slices.Contains(verbs, "get") {
		paths[collection+"/{name}"] = o.item("one", verbs...)
	}
	subs := slices.Clone(k.def.Subresources)
	if k.def.Status {
		subs = append(subs, object.Subresource{Name: "status", Group: k.gvk.Group, Version: k.gvk.Version, Kind: k.gvk.Kind, Verbs: []string{"get", "patch", "update"}})
	}
	if k.def.Scale != nil {
		subs = append(subs, object.Subresource{Name: "scale", Group: "autoscaling", Version: "v1", Kind: "Scale", Verbs: []string{"get", "patch", "update"}})
	}
	for _, s := range subs {
		so := o
		so.sub, so.gvkOf = s.Name, schema.GroupVersionKind{Group: s.Group, Version: s.Version, Kind: s.Kind}
		if so.model = subresourceModel(s); s.Name == "status" || s.Kind == k.gvk.Kind {
			so.model = k.model
		}
		paths[collection+"/{name}/"+s.Name] = so.item("one", s.Verbs...)
	}
}

type operations struct {
	kind
	gv    schema.GroupVersion
	v3    bool
	sub   string
	gvkOf schema.GroupVersionKind
}

func (o operations) param(name, in, kind, text string) map[string]any {
	p := map[string]any{"name": name, "in": in, "description": text}
	if in == "path" {
		p["required"] = true
	}
	if in == "path" || !o.v3 {
		p["uniqueItems"] = true
	}
	if o.v3 {
		delete(p, "uniqueItems")
		p["schema"] = map[string]any{"type": kind, "uniqueItems": true}
	} else {
		p["type"] = kind
	}
	return p
}

func (o operations) ref(model string) map[string]any {
	return map[string]any{"$ref": refPrefix + model}
}

func (o operations) responses(model string, types []string) map[string]any {
	ok := map[string]any{"description": "OK"}
	if model != "" {
		if o.v3 {
			content := map[string]any{}
			for _, t := range types {
				content[t] = map[string]any{"schema": o.ref(model)}
			}
			ok["content"] = content
		} else {
			ok["schema"] = o.ref(model)
		}
	}
	return map[string]any{"200": ok, "401": map[string]any{"description": "Unauthorized"}}
}

// encodings are those of answers. Kinds made at run time have no protobuf form,
// but for the objects that they share with others, and upstream says nothing of the
// one in CBOR. Lists are watches, too.
func (o operations) encodings(list bool) []string {
	all := []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor"}
	if o.def.Dynamic != nil {
		return all[:2]
	}
	if list {
		all = append(all, "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch", "application/cbor-seq")
	}
	return all
}

// patches are the forms of patches. kubectl looks here for whether a kind can be
// patched strategically, which takes a Go type.
func (o operations) patches() []string {
	if o.def.Dynamic != nil {
		return []string{"application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"}
	}
	return []string{"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml", "application/apply-patch+cbor"}
}

func (o operations) body(op map[string]any, model string, types ...string) {
	if len(types) == 0 {
		types = []string{"*/*"}
	}
	if !o.v3 {
		op["consumes"] = types
		op["parameters"] = append(op["parameters"].([]any), map[string]any{"name": "body", "in": "body", "required": true, "schema": o.ref(model)})
		return
	}
	content := map[string]any{}
	for _, t := range types {
		content[t] = map[string]any{"schema": o.ref(model)}
	}
	op["requestBody"] = map[string]any{"required": true, "content": content}
}

// item describes a path: all namespaces' collection, a collection, or one object.
func (o operations) item(what string, verbs ...string) map[string]any {
	item := map[string]any{}
	var common []any
	if o.def.Namespaced && what != "all" {
		common = append(common, o.param("namespace", "path", "string", "object name and auth scope, such as for teams and projects"))
	}
	if what == "one" {
		common = append(common, o.param("name", "path", "string", "name of the "+o.kind.gvk.Kind))
	}
	common = append(common, o.param("pretty", "query", "string", "If 'true', then the output is pretty printed."))
	item["parameters"] = common
	model := o.model
	for _, v := range verbs {
		method, action, body, answer := "", v, "", model
		switch {
		case v == "list" && what != "one":
			method, action, answer = "get", "list", o.list
		case v == "create" && (what == "collection" || o.sub != ""):
			method, action, body = "post", "post", model
		case v == "deletecollection" && what == "collection":
			method, action, answer = "delete", "deletecollection", metaPrefix+"Status"
		case v == "get" && what == "one":
			method = "get"
		case v == "update" && what == "one":
			method, action, body = "put", "put", model
		case v == "patch" && what == "one":
			method, body = "patch", metaPrefix+"Patch"
		case v == "delete" && what == "one":
			method, answer = "delete", metaPrefix+"Status"
		default:
			continue
		}
		types := o.encodings(action == "list")
		op := map[string]any{
			"operationId": o.id(action, what), "tags": []string{o.tag()}, "parameters": []any{},
			"description": o.describe(action), "responses": o.responses(answer, types),
			"x-kubernetes-action": action, "x-kubernetes-group-version-kind": o.extension(),
		}
		var params []any
		if method == "post" || method == "put" || method == "patch" || method == "delete" {
			params = append(params, o.param("dryRun", "query", "string", "When present, indicates that modifications should not be persisted."))
		}
		if body != "" {
			params = append(params, o.param("fieldManager", "query", "string", "fieldManager is a name associated with the actor or entity that is making these changes."),
				o.param("fieldValidation", "query", "string", "fieldValidation instructs the server on how to handle objects in the request containing unknown or duplicate fields: Ignore, Warn or Strict."))
		}
		if method == "patch" {
			params = append(params, o.param("force", "query", "boolean", "Force is going to \"force\" Apply requests: conflicting fields owned by other people are re-acquired."))
		}
		if action == "list" || action == "deletecollection" {
			for _, p := range []struct{ name, kind, text string }{
				{"labelSelector", "string", "A selector to restrict the list of returned objects by their labels."},
				{"fieldSelector", "string", "A selector to restrict the list of returned objects by their fields."},
				{"limit", "integer", "limit is a maximum number of responses to return for a list call."},
				{"continue", "string", "The continue option should be set when retrieving more results from the server."},
				{"resourceVersion", "string", "resourceVersion sets a constraint on what resource versions a request may be served from."},
				{"resourceVersionMatch", "string", "resourceVersionMatch determines how resourceVersion is applied to list calls."},
				{"sendInitialEvents", "boolean", "sendInitialEvents begins a watch stream with synthetic events of what is there."},
				{"timeoutSeconds", "integer", "Timeout for the list/watch call."},
				{"watch", "boolean", "Watch for changes to the described resources and return them as a stream."},
				{"allowWatchBookmarks", "boolean", "allowWatchBookmarks requests watch events with type BOOKMARK."},
			} {
				params = append(params, o.param(p.name, "query", p.kind, p.text))
			}
		}
		op["parameters"] = append([]any{}, params...)
		if body != "" {
			if method == "patch" {
				o.body(op, body, o.patches()...)
			} else {
				o.body(op, body)
			}
		}
		if !o.v3 {
			op["produces"] = types
			op["schemes"] = []string{"https"}
		}
		item[method] = op
	}
	return item
}

func (o operations) extension() map[string]string {
	gvk := o.kind.gvk
	if o.sub != "" {
		gvk = o.gvkOf
	}
	return kindsExtension(gvk)[0]
}

func (o operations) tag() string {
	group := "core"
	if o.gv.Group != "" {
		group = strings.Split(o.gv.Group, ".")[0]
	}
	return group + "_" + o.gv.Version
}

// id is upstream's operation id, such as listCoreV1NamespacedPod.
func (o operations) id(action, what string) string {
	verb := map[string]string{
		"list": "list", "post": "create", "deletecollection": "delete", "get": "read", "put": "replace", "patch": "patch", "delete": "delete",
	}[action]
	title := func(s string) string {
		if s == "" {
			return s
		}
		return strings.ToUpper(s[:1]) + s[1:]
	}
	group := "Core"
	if o.gv.Group != "" {
		group = title(strings.Split(o.gv.Group, ".")[0])
	}
	name := verb + group + title(o.gv.Version)
	if action == "deletecollection" {
		name += "Collection"
	}
	if o.def.Namespaced && what != "all" {
		name += "Namespaced"
	}
	name += o.kind.gvk.Kind + title(o.sub)
	if what == "all" {
		name += "ForAllNamespaces"
	}
	return name
}

func (o operations) describe(action string) string {
	what := o.kind.gvk.Kind
	if o.sub != "" {
		what = o.sub + " of the specified " + what
	}
	switch action {
	case "list":
		return "list or watch objects of kind " + what
	case "post":
		return "create a " + what
	case "deletecollection":
		return "delete collection of " + what
	case "get":
		return "read the specified " + what
	case "put":
		return "replace the specified " + what
	case "patch":
		return "partially update the specified " + what
	}
	return "delete a " + what
}
