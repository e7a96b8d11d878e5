// Package field is the package of the same name of k8s.io/apimachinery for the
// validation of built-in kinds: the same errors, of paths that cost nothing while
// nothing is wrong. A path of that package is an allocation an element, and those
// of a pod were a quarter of the objects that a create left behind. A path of this
// one stays on the stack of who makes it, as long as those whom it is given do not
// keep it: everything here takes care of that (TestPathsAreNotAllocated).
package field

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Error and ErrorList are those of k8s.io/apimachinery.
type (
	Error     = field.Error
	ErrorList = field.ErrorList
	// OmitValueType is the value of an Invalid that is not shown.
	OmitValueType = field.OmitValueType
)

// ErrorTypeRequired is the type of a Required error.
const ErrorTypeRequired = field.ErrorTypeRequired

// Path is the way to a field of an object. The nil Path is that of the object.
type Path struct {
	parent *Path
	name   string
	more   []string // names below name
	index  int
	what   element
}

type element uint8

const (
	names element = iota
	index
	key
)

// NewPath returns a path of one or more names.
func NewPath(name string, more ...string) *Path { return &Path{name: name, more: more} }

// Child returns the path of a field below p, by one or more names.
func (p *Path) Child(name string, more ...string) *Path {
	return &Path{parent: p, name: name, more: more}
}

// Index returns the path of an item of the list at p.
func (p *Path) Index(i int) *Path { return &Path{parent: p, index: i, what: index} }

// Key returns the path of an entry of the map at p.
func (p *Path) Key(k string) *Path { return &Path{parent: p, name: k, what: key} }

// Upstream returns the path as k8s.io/apimachinery has it, for its own checks.
// All of it is new: what refers to p would have p allocated.
func (p *Path) Upstream() *field.Path {
	if p == nil {
		return nil
	}
	parent := p.parent.Upstream()
	switch p.what {
	case index:
		return parent.Index(p.index)
	case key:
		return parent.Key(strings.Clone(p.name))
	}
	if parent == nil {
		parent = field.NewPath(strings.Clone(p.name))
	} else {
		parent = parent.Child(strings.Clone(p.name))
	}
	for _, name := range p.more {
		parent = parent.Child(strings.Clone(name))
	}
	return parent
}

// String is the path as errors show it: spec.containers[0].name.
func (p *Path) String() string { return p.Upstream().String() }

// The errors of k8s.io/apimachinery, by their names there.

func TypeInvalid(p *Path, value any, detail string) *Error {
	return field.TypeInvalid(p.Upstream(), value, detail)
}

func NotFound(p *Path, value any) *Error { return field.NotFound(p.Upstream(), value) }

func Required(p *Path, detail string) *Error { return field.Required(p.Upstream(), detail) }

func Duplicate(p *Path, value any) *Error { return field.Duplicate(p.Upstream(), value) }

func Invalid(p *Path, value any, detail string) *Error {
	return field.Invalid(p.Upstream(), value, detail)
}

func NotSupported[T ~string](p *Path, value any, valid []T) *Error {
	return field.NotSupported(p.Upstream(), value, valid)
}

func Forbidden(p *Path, detail string) *Error { return field.Forbidden(p.Upstream(), detail) }

func TooLong(p *Path, value any, most int) *Error { return field.TooLong(p.Upstream(), value, most) }

func TooLongCharacters[T ~string](p *Path, value T, most int) *Error {
	return field.TooLongCharacters(p.Upstream(), value, most)
}

func TooMany(p *Path, n, most int) *Error { return field.TooMany(p.Upstream(), n, most) }

func TooFew(p *Path, n, least int) *Error { return field.TooFew(p.Upstream(), n, least) }

func TooShort[T ~string](p *Path, value T, least int) *Error {
	return field.TooShort(p.Upstream(), value, least)
}

func InternalError(p *Path, err error) *Error { return field.InternalError(p.Upstream(), err) }
