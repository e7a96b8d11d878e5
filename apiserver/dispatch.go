package apiserver

import (
	"fmt"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/apiserver/aggregator"
	"sagong/apiserver/resource"
	"sagong/object"
)

// serveResource finds the kind and carries out the verb.
func (q *request) serveResource() {
	in := &q.info
	if q.delegated(in.GV) {
		return
	}
	def := q.s.engine.Scheme().ByResource(in.GVR())
	if def == nil {
		q.unknownResource()
		return
	}
	switch d := def.Dynamic; {
	case d != nil && d.Deprecation != "":
		q.warn(d.Deprecation)
	case def.Deprecated != "":
		q.warn(def.Deprecated)
	}
	k := q.s.engine.Kind(def)
	v := k.Codec.Version(in.GV)
	if v == nil {
		q.unknownResource()
		return
	}
	if in.Rest != "" && in.Subresource != "proxy" && def.Dynamic == nil {
		q.unknownResource()
		return
	}
	// Upstream has routes for GET alone, but none of these for custom resources.
	if q.r.Method == http.MethodHead && def.Dynamic == nil && in.Subresource != "proxy" {
		q.fail(q.notAllowed())
		return
	}
	if in.Watch && def.Dynamic == nil && q.r.Method != http.MethodGet {
		q.fail(q.notAllowed())
		return
	}
	for _, msg := range path.IsValidPathSegmentName(in.Name) {
		if in.Subresource == "proxy" || def.Dynamic != nil && (in.Verb == "create" || in.Verb == "") {
			break // names a port as well; or is not looked at
		}
		q.fail(apierrors.NewBadRequest(fmt.Sprintf("Name parameter invalid: %q: %s", in.Name, msg)))
		return
	}
	t := resource.Target{Kind: k, Version: v, Namespace: in.Namespace, Name: in.Name, Subresource: in.Subresource}
	if !def.Namespaced {
		if in.Namespace != "" && in.Plural != "namespaces" {
			q.unknownResource()
			return
		}
		t.Namespace = ""
	}
	if def.Namespaced && in.Namespace == "" && (in.Subresource != "" || in.Verb != "list" && in.Verb != "watch") {
		// Upstream has a route for collections in all namespaces, to read them.
		if in.Name == "" && def.Dynamic == nil {
			q.fail(q.notAllowed())
			return
		}
		q.unknownResource()
		return
	}
	var err error
	if in.Subresource != "" {
		err = q.serveSubresource(t)
	} else {
		err = q.serveMain(t)
	}
	if err != nil {
		q.fail(err)
	}
}

// delegated passes a request on when another server answers for its group and
// version, and reports whether it did.
func (q *request) delegated(gv schema.GroupVersion) bool {
	if q.s.Delegate == nil {
		return false
	}
	h := q.s.Delegate(gv)
	if h == nil {
		return false
	}
	q.ticket.Yield()
	h.ServeHTTP(q.w, q.r.WithContext(aggregator.WithUser(q.r.Context(), q.user)))
	return true
}

// unknownResource answers a path below a group and version that leads nowhere.
// Only those of built-in groups have a router that says so.
func (q *request) unknownResource() {
	if !q.belowBuiltin() {
		q.notFound()
		return
	}
	q.fail(routerError(http.StatusNotFound, ""))
}

// allows reports whether a kind has a verb.
func allows(d *object.Definition, verb string) bool {
	if d.Verbs == nil {
		return !d.Virtual || verb == "create"
	}
	return slices.Contains(d.Verbs, verb)
}

func (q *request) serveMain(t resource.Target) error {
	verb := q.info.Verb
	if !allows(t.Definition, verb) {
		return q.notAllowed()
	}
	if q.info.Name != "" && !t.Custom() && verb == "create" || q.info.Name == "" && !t.Custom() && (verb == "update" || verb == "patch") {
		return q.notAllowed()
	}
	if err := q.routed(t); err != nil {
		return err
	}
	if t.Virtual {
		return q.createOther(t, func() runtime.Object { return t.WireVersion().New() }, t.WireVersion().GroupVersionKind)
	}
	defer q.spanOfVerb().End()
	switch verb {
	case "get":
		return q.get(t)
	case "list":
		return q.list(t)
	case "watch":
		return q.watch(t)
	case "create":
		t.Name = "" // that of a custom object is its own
		return q.create(t)
	case "update", "patch":
		if q.info.Name == "" {
			return apierrors.NewBadRequest("name must be provided")
		}
		if verb == "update" {
			return q.update(t)
		}
		return q.patch(t)
	case "delete":
		return q.delete(t)
	case "deletecollection":
		return q.deleteCollection(t)
	}
	return q.notAllowed()
}

// notAllowed is the error for a verb that a resource does not have. Custom
// resources have a handler of their own, which names them.
func (q *request) notAllowed() error {
	if def := q.s.engine.Scheme().ByResource(q.info.GVR()); def != nil && def.Dynamic != nil {
		return apierrors.NewMethodNotSupported(schema.GroupResource{Group: def.Group, Resource: def.Resource}, q.info.Verb)
	}
	return routerError(http.StatusMethodNotAllowed, "")
}

// partAllows reports whether a part of an object has a verb: it says which, or
// has all that a part may have.
func partAllows(d *object.Definition, part, verb string) bool {
	for _, s := range d.Subresources {
		if s.Name == part {
			return slices.Contains(s.Verbs, verb)
		}
	}
	return verb == "get" || verb == "update" || verb == "patch"
}

// proxied are the methods that go through proxies.
var proxied = []string{
	http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions,
}

// serveSubresource carries out a verb on a subresource: a part of the object, a
// handler's, or a stream.
func (q *request) serveSubresource(t resource.Target) error {
	if q.s.engine.IsPart(t) {
		if !partAllows(t.Definition, t.Subresource, q.info.Verb) {
			return q.notAllowed()
		}
		if err := q.routed(t); err != nil {
			return err
		}
		defer q.spanOfVerb().End()
		switch q.info.Verb {
		case "get":
			return q.get(t)
		case "update":
			return q.update(t)
		}
		return q.patch(t)
	}
	if h, ok := q.s.engine.Handler(t); ok {
		return q.serveHandler(t, h)
	}
	if t.Group == "" {
		switch t.Resource + "/" + t.Subresource {
		case "pods/log":
			if q.r.Method != http.MethodGet {
				return q.notAllowed()
			}
			if err := q.routed(t); err != nil {
				return err
			}
			return q.serveTunnel(t)
		case "pods/exec", "pods/attach", "pods/portforward":
			if q.r.Method != http.MethodGet && q.r.Method != http.MethodPost {
				return q.notAllowed()
			}
			return q.serveTunnel(t)
		case "pods/proxy", "nodes/proxy", "services/proxy":
			if !slices.Contains(proxied, q.r.Method) {
				return q.notAllowed()
			}
			return q.serveTunnel(t)
		}
	}
	if t.Custom() {
		return apierrors.NewNotFound(schema.GroupResource{Group: t.Group, Resource: t.Resource}, t.Name)
	}
	q.unknownResource()
	return nil
}

func (q *request) serveHandler(t resource.Target, h resource.Handler) error {
	var serve func() error
	switch {
	case q.info.Verb == "create" && h.Create != nil:
		serve = func() error { return q.createOther(t, h.New, schema.GroupVersionKind{}) }
	case q.info.Verb == "get" && h.Get != nil:
		serve = func() error { return q.getOther(t, h) }
	case q.info.Verb == "update" && h.Update != nil:
		serve = func() error { return q.updateOther(t, h) }
	case q.info.Verb == "patch" && h.Get != nil && h.Update != nil:
		serve = func() error { return q.patchOther(t, h) }
	default:
		return q.notAllowed()
	}
	if err := q.routed(t); err != nil {
		return err
	}
	return serve()
}

func (q *request) getOther(t resource.Target, h resource.Handler) error {
	a, err := q.shapedOther(t)
	if err != nil {
		return err
	}
	o, err := h.Get(q.r.Context(), q.caller(), t)
	if err != nil {
		return err
	}
	return q.shapeOther(a, t, o)
}

// createOther posts a body to a handler.
func (q *request) createOther(t resource.Target, fresh func() runtime.Object, gvk schema.GroupVersionKind) error {
	a, err := negotiate(q.r, true, false, false)
	if err != nil {
		return err
	}
	o, validation, err := q.createOptions()
	if err != nil {
		return err
	}
	body, err := q.decode(t, fresh(), gvk, validation)
	if err != nil {
		return err
	}
	out, err := q.s.engine.CreateSubresource(q.r.Context(), q.caller(), t, body, o)
	if err != nil {
		return err
	}
	code := http.StatusCreated
	if s, ok := out.(*metav1.Status); ok && s.Code != 0 {
		code = int(s.Code)
	}
	q.other(a, code, named(out))
	return nil
}

func (q *request) updateOther(t resource.Target, h resource.Handler) error {
	a, err := q.shapedOther(t)
	if err != nil {
		return err
	}
	o, validation, err := q.updateOptions()
	if err != nil {
		return err
	}
	body, err := q.decode(t, h.New(), schema.GroupVersionKind{}, validation)
	if t.Custom() && apierrors.IsBadRequest(err) {
		// Upstream wants to say more, and its scheme does not know the type either.
		return apierrors.NewBadRequest(fmt.Sprintf("no kind is registered for the type v1.Scale in scheme %q", schemeOf(t)))
	}
	if err != nil {
		return err
	}
	out, err := h.Update(q.r.Context(), q.caller(), t, body, o)
	if err != nil {
		return err
	}
	return q.shapeOther(a, t, out)
}

// shapedOther negotiates the answer of a subresource with a state of its own. A
// scale may be had as a table.
func (q *request) shapedOther(t resource.Target) (accepted, error) {
	return negotiate(q.r, true, false, t.Subresource == "scale")
}

func (q *request) shapeOther(a accepted, t resource.Target, o runtime.Object) error {
	out, err := shapeOther(a, t, named(o))
	if err != nil {
		return err
	}
	q.other(a, http.StatusOK, out)
	return nil
}

// named gives a built-in object the kind it is sent under.
func named(o runtime.Object) runtime.Object {
	if o.GetObjectKind().GroupVersionKind().Kind != "" {
		return o
	}
	if gvk, ok := kindOfBuiltin(o); ok {
		o = o.DeepCopyObject()
		o.GetObjectKind().SetGroupVersionKind(gvk)
	}
	return o
}

// wrongKind is the error for a body of another kind than the path's.
func wrongKind(gvk, want schema.GroupVersionKind, cause error) error {
	return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", gvk.Kind, gvk.Version, want.Kind, cause))
}
