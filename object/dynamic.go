package object

import (
	"context"
	"encoding/json"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Dynamic is what only kinds made at run time have. Their objects are maps, kept
// as JSON in the version that was the storage version when they were written.
// Each served version is a definition of its own, with rules of its own, over
// the same stored objects: the first stands for the kind, the rest are its
// Others.
type Dynamic struct {
	// Life ends when the definition is no longer served, because the kind is gone
	// or was changed. Watches of it end then.
	Life context.Context
	// Alias marks one of Others.
	Alias bool
	// Listed are all versions that the definition lists, in its order, this one and
	// those that are not served included.
	Listed []*Definition
	// Storage is the version in which objects are kept.
	Storage string
	// ListKind is the kind of lists.
	ListKind string
	// Terminating says that the kind is being deleted: no object can be created.
	Terminating bool
	// Deprecation is a warning for every request in this version; empty for none.
	Deprecation string

	// Digest changes with what clients are told of the kind.
	Digest string

	// Decode turns a stored object of any version, which it owns, into one of
	// this version.
	Decode func(map[string]any) (map[string]any, error)
	// DecodeAll does the same to many at once, in order: a webhook converts them in
	// one call. Nil where Decode costs no more.
	DecodeAll func([]map[string]any) ([]map[string]any, error)
	// Encode turns an object of this version, which it must not change, into one
	// of the storage version.
	Encode func(map[string]any) (map[string]any, error)
	// Converts says that metadata other than apiVersion may differ between the
	// versions of an object.
	Converts bool
	// Convert makes an object of another version of the kind. It does not change
	// its argument, and may share with it. An unknown version is an error that
	// runtime.IsNotRegisteredError knows.
	Convert func(*unstructured.Unstructured, schema.GroupVersion) (*unstructured.Unstructured, error)
	// ValidateUpdate judges a changed object, or a write to its status. It warns of
	// what is wrong but was before. Nil: the hooks do without warnings.
	ValidateUpdate func(new, old Object, status bool, warn func(...string)) field.ErrorList
	// Fields gives the schema by which fields are managed, made at first use.
	Fields func() (managedfields.TypeConverter, error)
	// Model describes objects of this version to clients, made at first use.
	Model func() (Model, error)
}

// Model is the OpenAPI description of a kind made at run time. References in it
// are to "#/components/schemas/".
type Model struct {
	Name, List     string // of the schemas
	V3, V2         json.RawMessage
	ListV3, ListV2 json.RawMessage
}

// Decoder of stored objects; the identity for kinds without one.
func (d *Dynamic) decode(m map[string]any) (map[string]any, error) {
	if d == nil || d.Decode == nil {
		return m, nil
	}
	return d.Decode(m)
}

func (d *Dynamic) encode(m map[string]any) (map[string]any, error) {
	if d == nil || d.Encode == nil {
		return m, nil
	}
	return d.Encode(m)
}

// Gone reports whether a definition is no longer served.
func (d *Definition) Gone() bool {
	return d.Dynamic != nil && d.Dynamic.Life != nil && d.Dynamic.Life.Err() != nil
}

// Versions returns the definition and its Others.
func (d *Definition) Versions() []*Definition {
	return append([]*Definition{d}, d.Others...)
}
