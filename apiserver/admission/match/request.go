// Package match shows a write as webhooks and policies see it: its resource and
// kind as requested and in the other versions it is served in, and which rules
// and selectors it matches.
package match

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/apiserver/resource"
	"sagong/object"
)

// Request is one write. It is used by one goroutine at a time while its object
// changes.
type Request struct {
	*resource.Attributes
	// Resource and Kind are those of the request's path and body.
	Resource schema.GroupVersionResource
	Kind     schema.GroupVersionKind
	// Namespace is that of the path, and for a Namespace its own name.
	Namespace string
	// Name is the object's; empty while it has none, and when it is deleted with
	// a collection.
	Name string
	// Body is true when the object is not of the resource's kind: a Scale, a
	// Binding, the options of a stream.
	Body bool

	scheme     *object.Scheme
	equivalent []Target // made at first use
}

// Target is a resource in one of its versions.
type Target struct {
	Resource schema.GroupVersionResource
	Kind     schema.GroupVersionKind
}

// Sort says who asks about a write.
type Sort bool

const (
	Webhooks Sort = false
	Policies Sort = true
)

// New looks at a write. ok is false for what upstream never shows to webhooks
// and policies: questions about access, logs, and the configuration of policies,
// to webhooks that of webhooks as well.
func New(s *object.Scheme, a *resource.Attributes, by Sort) (r *Request, ok bool) {
	d := a.Definition
	switch {
	case d.Group == "admissionregistration.k8s.io" && (by == Webhooks || strings.Contains(d.Resource, "admissionpolic")):
		return nil, false
	case d.Virtual && (d.Group == "authentication.k8s.io" || d.Group == "authorization.k8s.io"):
		return nil, false
	case a.Operation == resource.Connect && a.Subresource == "log":
		return nil, false
	}
	v := a.Version
	r = &Request{
		Attributes: a, scheme: s, Namespace: a.Namespace, Kind: v.GroupVersionKind,
		Resource: v.GroupVersion().WithResource(d.Resource),
	}
	if d.Group == "" && d.Resource == "namespaces" {
		r.Namespace = a.Name
	}
	if !a.Collection {
		r.Name = a.Name
	}
	if k := bodyKind(d, a.Subresource); !k.Empty() && k != r.Kind {
		r.Kind, r.Body = k, true
	}
	return r, true
}

// bodyKind is the kind that a subresource is written in; empty for the
// resource's own.
func bodyKind(d *object.Definition, subresource string) schema.GroupVersionKind {
	switch subresource {
	case "", "status":
		return schema.GroupVersionKind{}
	case "scale":
		if d.Scale != nil {
			return schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}
		}
	}
	for _, s := range d.Subresources {
		if s.Name == subresource && s.Kind != d.Kind {
			return schema.GroupVersionKind{Group: s.Group, Version: s.Version, Kind: s.Kind}
		}
	}
	return schema.GroupVersionKind{}
}

// Equivalents are the other versions (and groups) of the same objects with the
// same subresource, in the order of definition; of custom resources also those
// that are not served.
func (r *Request) Equivalents() []Target {
	if r.equivalent != nil {
		return r.equivalent
	}
	r.equivalent = []Target{}
	add := func(gvk schema.GroupVersionKind) {
		if gvk.GroupVersion() == r.Resource.GroupVersion() {
			return
		}
		t := Target{Resource: gvk.GroupVersion().WithResource(r.Resource.Resource), Kind: gvk}
		if r.Body {
			t.Kind = r.Kind // bodies have one version
		}
		r.equivalent = append(r.equivalent, t)
	}
	d := r.Definition
	if d.Dynamic != nil {
		for _, v := range d.Dynamic.Listed {
			if r.Subresource == "" || r.Subresource == "status" && v.Status || r.Subresource == "scale" && v.Scale != nil {
				add(v.GVK())
			}
		}
		return r.equivalent
	}
	add(d.GVK())
	for _, s := range d.Served {
		k := s.Kind
		if k == "" {
			k = d.Kind
		}
		add(schema.GroupVersionKind{Group: s.Group, Version: s.Version, Kind: k})
	}
	return r.equivalent
}

// ObjectName names the object in error texts: by what its name is to be made
// from, while it has none.
func (r *Request) ObjectName() string {
	if r.Name != "" {
		return r.Name
	}
	o, ok := r.Object.(metav1.Object)
	switch {
	case r.Object != nil && !ok:
		return "Unknown/errorGettingName"
	case !ok:
	case o.GetName() != "":
		return o.GetName()
	case o.GetGenerateName() != "":
		return o.GetGenerateName()
	}
	return "Unknown"
}

// OptionsOf are the options of the write as webhooks see them, with their kind.
func (r *Request) OptionsOf() runtime.Object {
	gv := schema.GroupVersion{Group: metav1.GroupName, Version: "v1"}
	switch o := r.Options.(type) {
	case *metav1.CreateOptions:
		c := *o
		c.SetGroupVersionKind(gv.WithKind("CreateOptions"))
		return &c
	case *metav1.UpdateOptions:
		c := *o
		c.SetGroupVersionKind(gv.WithKind("UpdateOptions"))
		return &c
	case *metav1.PatchOptions:
		// A patch has no options of its own here: it is an update, or it creates.
		if r.Operation == resource.Create {
			c := &metav1.CreateOptions{DryRun: o.DryRun, FieldManager: o.FieldManager, FieldValidation: o.FieldValidation}
			c.SetGroupVersionKind(gv.WithKind("CreateOptions"))
			return c
		}
		c := &metav1.UpdateOptions{DryRun: o.DryRun, FieldManager: o.FieldManager, FieldValidation: o.FieldValidation}
		c.SetGroupVersionKind(gv.WithKind("UpdateOptions"))
		return c
	case *metav1.DeleteOptions:
		c := *o
		c.SetGroupVersionKind(gv.WithKind("DeleteOptions"))
		return &c
	}
	return nil // a stream has its options as its object
}

func splitResource(s string) (name, sub string) {
	name, sub, _ = strings.Cut(s, "/")
	return name, sub
}
