// Package object says what a kind is: one Definition from which storage, REST,
// discovery, OpenAPI, tables, RBAC lists and watch all derive. It knows the
// types of k8s.io/api only through interfaces, and nothing of HTTP or the store.
package object

import (
	"context"
	"reflect"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Object is an API object in its only in-memory form, the storage version's
// type from k8s.io/api. A published object (read from a view, a list or a
// watch) is shared and immutable: DeepCopyObject before changing it.
type Object interface {
	runtime.Object
	metav1.Object
}

// Definition is everything the system knows of one kind. It is immutable once
// it is in a Scheme. Write one with Kind[T].Definition, which keeps hooks typed.
type Definition struct {
	Group, Version, Kind string   // of the storage version
	Resource, Singular   string   // "pods", "pod"
	ShortNames           []string // "po"
	Categories           []string // "all"
	Namespaced           bool
	// Verbs lists what the resource allows; nil means all of create, delete,
	// deletecollection, get, list, patch, update, watch.
	Verbs []string
	// Virtual kinds (SubjectAccessReview, TokenReview, ...) are only created
	// and never stored; the API server has a handler for each.
	Virtual bool
	// Deprecated is the warning that every request for the kind gets; empty for none.
	Deprecated string

	New     func() Object
	NewList func() runtime.Object

	// Served lists further versions of the same kind (autoscaling/v1 of HPA,
	// core/v1 of Event) with their conversion to and from the storage version.
	Served []ServedVersion

	// Dynamic is set for kinds made at run time, whose further served versions are
	// Others.
	Dynamic *Dynamic
	Others  []*Definition

	// Status is true when the kind has a status subresource: writes to the main
	// resource then keep the old status, and writes to status keep all else.
	Status bool
	// Generation is true when metadata.generation counts changes of the spec
	// (everything but metadata and status).
	Generation bool
	// NewGeneration says whether an update is counted where that is not for the
	// content alone; nil means that it is.
	NewGeneration func(new, old Object, content bool) bool
	// StatusKeepsMetadata is true when writes to status keep labels, annotations,
	// finalizers and owners too.
	StatusKeepsMetadata bool
	// Resets are fields that a write through the main resource ("") or a
	// subresource puts back, as "metadata.labels", and so never owns: beside what
	// follows from Status, and alone for a subresource other than status.
	Resets map[string][]string
	// Owns are the only fields that a write through a subresource changes; "*"
	// stands for any element: "spec.containers.*.resources".
	Owns map[string][]string
	// Scale is set when the kind has a scale subresource.
	Scale *Scale
	// Subresources lists the others, for discovery and RBAC; the API server
	// holds a handler for each.
	Subresources []Subresource

	// Fields returns the field-selector fields of an object besides
	// metadata.name and metadata.namespace. Nil when there are none.
	Fields func(Object) fields.Set
	FieldLabels

	// Columns are what kubectl get prints, in order; nil means Name and Created At.
	Columns []Column
	// RowConditions are those of an object's row in a table; nil for none.
	RowConditions func(Object) []metav1.TableRowCondition
	// RowOrder orders the rows of a table; nil leaves them in the list's order.
	RowOrder func(a, b Object) int

	// TTL, when not nil, gives how long an object lives after its last write
	// (Events: one hour); zero means for ever.
	TTL func(Object) time.Duration

	// Lazy kinds may be acknowledged before they are synced to disk. Only for
	// kinds whose loss promises nothing (Events, Leases).
	Lazy bool

	Hooks
}

// Hooks are a kind's rules. Any may be nil. They own the object they are given
// and may change it, except old objects, which are shared and immutable.
type Hooks struct {
	// Default fills unset fields as upstream's defaulting does. It runs on
	// every object that comes from outside, before admission, and must be
	// idempotent.
	Default func(Object)
	// Prune removes fields that the kind's schema does not know and returns
	// their paths, such as "spec.foo"; an error means that the object cannot be
	// read. Only kinds made at run time have one: a Go type knows its fields. It
	// runs on every object that comes from outside, before Default.
	Prune func(Object) (unknown []string, err error)
	// PrepareCreate runs after mutating admission, before validation: it
	// clears what a client may not set on create (status, for kinds with one).
	PrepareCreate func(context.Context, Object)
	// PrepareUpdate does the same for an update of the main resource. Status
	// and generation are handled by the engine.
	PrepareUpdate func(ctx context.Context, new, old Object)
	// PrepareStatusUpdate runs for status writes, after the engine has put
	// back all but status and metadata.
	PrepareStatusUpdate func(ctx context.Context, new, old Object)
	// BeginDelete changes an object whose deletion begins: it may add finalizers
	// and set conditions. It gets a copy whose metadata it may change field by
	// field; all else it must replace.
	BeginDelete func(Object)
	// Validate checks a new object, ValidateUpdate a changed one (the engine
	// calls only ValidateUpdate for updates; it must include what Validate
	// checks), ValidateStatusUpdate a write to status. ObjectMeta is checked by
	// the engine with NameRule.
	Validate             func(Object) field.ErrorList
	ValidateUpdate       func(new, old Object) field.ErrorList
	ValidateStatusUpdate func(new, old Object) field.ErrorList
	// NameRule checks metadata.name (prefix: it is generateName); nil means
	// DNS subdomain.
	NameRule func(name string, prefix bool) []string
	// Warnings returns texts for Warning headers; old is nil on create.
	Warnings func(new, old Object) []string
	// AllowCreateOnUpdate lets PUT of a missing name create it (leases, ...);
	// AllowUnconditionalUpdate lets PUT leave resourceVersion empty.
	AllowCreateOnUpdate, RefuseUnconditionalUpdate bool
	// BeforeDelete decides how a delete proceeds: it may lengthen or shorten
	// the grace period in opts (Pods). Nil means immediate deletion (finalizers
	// aside).
	BeforeDelete func(obj Object, opts *metav1.DeleteOptions) (graceful bool)
	// DefaultPropagation is used when DeleteOptions name no policy and the
	// object has no orphan or foreground finalizer; empty means background.
	DefaultPropagation metav1.DeletionPropagation
	// DeleteWarning is for who deletes without a policy; empty for none.
	DeleteWarning string
}

// ServedVersion is another version of a kind that clients may ask for.
type ServedVersion struct {
	Group, Version string // Group may differ (events)
	Kind           string // "" means the same
	New            func() runtime.Object
	NewList        func() runtime.Object
	// To converts a storage object into a fresh object of this version, From
	// the other way. Neither keeps pointers into its argument.
	To   func(Object) (runtime.Object, error)
	From func(runtime.Object) (Object, error)
	// Columns when they differ; nil means the Definition's.
	Columns []Column
	// FieldNames when they differ; nil means the Definition's.
	FieldNames []string
	// Validate and ValidateUpdate when they differ; nil means the Definition's.
	// They get objects of the storage version.
	Validate       func(Object) field.ErrorList
	ValidateUpdate func(new, old Object) field.ErrorList
}

// FieldLabels are what field selectors may name.
type FieldLabels struct {
	// FieldNames lists the keys of Fields. A selector may name those, metadata.name
	// and, of objects in namespaces, metadata.namespace.
	FieldNames []string
	// FieldAliases are older names of FieldNames.
	FieldAliases map[string]string
	// NoNamespaceField leaves metadata.namespace out.
	NoNamespaceField bool
	// UnknownField is a format of the error for any other field, where it is not
	// "field label not supported: %s".
	UnknownField string
}

// Scale maps a kind to autoscaling/v1 Scale.
type Scale struct {
	Get func(Object) *autoscalingv1.Scale
	// Missing is an error for objects that have no number of replicas yet; nil
	// means that there always is one.
	Missing func(Object) error
	Set     func(Object, int32) // changes spec.replicas
	// Path is where the number wanted lies, such as spec, replicas; nil means there.
	Path []string
}

// Subresource is one that discovery and RBAC must list, such as pods/log.
type Subresource struct {
	Name                 string // "log"
	Group, Version, Kind string // of the body, e.g. policy v1 Eviction
	Verbs                []string
}

// Column is one printed column, as in metav1.TableColumnDefinition.
type Column struct {
	Name, Type, Format, Description string
	// Priority 0 is always shown, 1 only with -o wide.
	Priority int32
	// Cell returns a string, an integer or a bool as Table cells hold them.
	// now is the time ages are counted from.
	Cell func(obj Object, now time.Time) any
}

// GVK returns the storage version's kind.
func (d *Definition) GVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: d.Group, Version: d.Version, Kind: d.Kind}
}

// GVR returns the storage version's resource.
func (d *Definition) GVR() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: d.Group, Version: d.Version, Resource: d.Resource}
}

// GR returns the resource without version, as error texts name it.
func (d *Definition) GR() schema.GroupResource {
	return schema.GroupResource{Group: d.Group, Resource: d.Resource}
}

// DeleteReturnsObject says whether a delete answers with the object rather than
// with a Status, as upstream's published API does.
func (d *Definition) DeleteReturnsObject() bool {
	switch d.Group {
	case "":
		switch d.Resource {
		case "pods", "podtemplates", "persistentvolumes", "persistentvolumeclaims", "resourcequotas", "services", "serviceaccounts":
			return true
		}
	case "storage.k8s.io":
		switch d.Resource {
		case "csidrivers", "csinodes", "storageclasses", "volumeattachments", "volumeattributesclasses":
			return true
		}
	case "resource.k8s.io":
		return true
	}
	return false
}

// Kind is a Definition whose hooks are written for the kind's own type T, a
// pointer such as *corev1.Pod.
type Kind[T Object] struct {
	Group, Version, Kind string
	Resource, Singular   string // Singular defaults to the lower-cased kind
	ShortNames           []string
	Categories           []string
	Namespaced           bool
	Verbs                []string
	Virtual              bool
	Deprecated           string
	New                  func() T
	NewList              func() runtime.Object
	Served               []ServedVersion
	Status, Generation   bool
	NewGeneration        func(new, old T, content bool) bool
	StatusKeepsMetadata  bool
	Resets, Owns         map[string][]string
	Lazy                 bool
	ScaleGet             func(T) *autoscalingv1.Scale
	ScaleSet             func(T, int32)
	Subresources         []Subresource
	Fields               func(T) fields.Set
	FieldLabels          FieldLabels
	FieldNames           []string // those of FieldLabels, when there is nothing else
	Columns              []TypedColumn[T]
	RowConditions        func(T) []metav1.TableRowCondition
	RowOrder             func(a, b T) int
	TTL                  func(T) time.Duration

	Default                   func(T)
	PrepareCreate             func(context.Context, T)
	PrepareUpdate             func(ctx context.Context, new, old T)
	PrepareStatusUpdate       func(ctx context.Context, new, old T)
	Validate                  func(T) field.ErrorList
	ValidateUpdate            func(new, old T) field.ErrorList
	ValidateStatusUpdate      func(new, old T) field.ErrorList
	NameRule                  func(name string, prefix bool) []string
	Warnings                  func(new, old T) []string // old is nil on create
	AllowCreateOnUpdate       bool
	RefuseUnconditionalUpdate bool
	BeforeDelete              func(T, *metav1.DeleteOptions) bool
	BeginDelete               func(T)
	DefaultPropagation        metav1.DeletionPropagation
	DeleteWarning             string
}

// TypedColumn is a Column for objects of type T.
type TypedColumn[T Object] struct {
	Name, Type, Format, Description string
	Priority                        int32
	Cell                            func(obj T, now time.Time) any
}

// Definition erases the type. A hook that is nil stays nil.
func (k Kind[T]) Definition() *Definition {
	d := &Definition{
		Group: k.Group, Version: k.Version, Kind: k.Kind,
		Resource: k.Resource, Singular: k.Singular, ShortNames: k.ShortNames, Categories: k.Categories,
		Namespaced: k.Namespaced, Verbs: k.Verbs, Virtual: k.Virtual, Deprecated: k.Deprecated,
		New: func() Object { return k.New() }, NewList: k.NewList, Served: k.Served,
		Status: k.Status, StatusKeepsMetadata: k.StatusKeepsMetadata, Resets: k.Resets, Owns: k.Owns, Generation: k.Generation, Lazy: k.Lazy,
		Subresources: k.Subresources, FieldLabels: k.FieldLabels,
		Hooks: Hooks{
			NameRule: k.NameRule, AllowCreateOnUpdate: k.AllowCreateOnUpdate,
			RefuseUnconditionalUpdate: k.RefuseUnconditionalUpdate, DefaultPropagation: k.DefaultPropagation, DeleteWarning: k.DeleteWarning,
		},
	}
	if k.FieldNames != nil {
		d.FieldNames = k.FieldNames
	}
	if d.Singular == "" {
		d.Singular = lower(k.Kind)
	}
	if k.ScaleGet != nil {
		d.Scale = &Scale{
			Get: func(o Object) *autoscalingv1.Scale { return k.ScaleGet(o.(T)) },
			Set: func(o Object, n int32) { k.ScaleSet(o.(T), n) },
		}
	}
	if k.Fields != nil {
		d.Fields = func(o Object) fields.Set { return k.Fields(o.(T)) }
	}
	d.Columns = k.columns()
	if k.NewGeneration != nil {
		d.NewGeneration = func(n, o Object, content bool) bool { return k.NewGeneration(n.(T), o.(T), content) }
	}
	if k.RowConditions != nil {
		d.RowConditions = func(o Object) []metav1.TableRowCondition { return k.RowConditions(o.(T)) }
	}
	if k.RowOrder != nil {
		d.RowOrder = func(a, b Object) int { return k.RowOrder(a.(T), b.(T)) }
	}
	if k.TTL != nil {
		d.TTL = func(o Object) time.Duration { return k.TTL(o.(T)) }
	}
	if k.Default != nil {
		d.Default = func(o Object) { k.Default(o.(T)) }
	}
	if k.PrepareCreate != nil {
		d.PrepareCreate = func(ctx context.Context, o Object) { k.PrepareCreate(ctx, o.(T)) }
	}
	if k.PrepareUpdate != nil {
		d.PrepareUpdate = func(ctx context.Context, n, o Object) { k.PrepareUpdate(ctx, n.(T), o.(T)) }
	}
	if k.PrepareStatusUpdate != nil {
		d.PrepareStatusUpdate = func(ctx context.Context, n, o Object) { k.PrepareStatusUpdate(ctx, n.(T), o.(T)) }
	}
	if k.Validate != nil {
		d.Validate = func(o Object) field.ErrorList { return k.Validate(o.(T)) }
	}
	if k.ValidateUpdate != nil {
		d.ValidateUpdate = func(n, o Object) field.ErrorList { return k.ValidateUpdate(n.(T), o.(T)) }
	}
	if k.ValidateStatusUpdate != nil {
		d.ValidateStatusUpdate = func(n, o Object) field.ErrorList { return k.ValidateStatusUpdate(n.(T), o.(T)) }
	}
	if k.Warnings != nil {
		d.Warnings = func(n, o Object) []string {
			old, _ := o.(T)
			return k.Warnings(n.(T), old)
		}
	}
	if k.BeginDelete != nil {
		d.BeginDelete = func(o Object) { k.BeginDelete(o.(T)) }
	}
	if k.BeforeDelete != nil {
		d.BeforeDelete = func(o Object, opts *metav1.DeleteOptions) bool { return k.BeforeDelete(o.(T), opts) }
	}
	return d
}

// TypeOf returns the Go type by which a Scheme finds a kind.
func TypeOf[T Object]() reflect.Type { return reflect.TypeFor[T]() }

func (k Kind[T]) columns() []Column {
	var out []Column
	for _, c := range k.Columns {
		out = append(out, Column{
			Name: c.Name, Type: c.Type, Format: c.Format, Description: c.Description, Priority: c.Priority,
			Cell: func(o Object, now time.Time) any { return c.Cell(o.(T), now) },
		})
	}
	return out
}
