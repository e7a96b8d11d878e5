package object

import (
	_ "embed"
	"encoding/binary"

	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// fieldSchema says of the built-in kinds how their lists and maps merge. It is
// what k8s.io/client-go/applyconfigurations holds as YAML, in a form that takes
// 1 ms to read instead of 100, and leaves no garbage: every server needs it with
// its first write. A test holds the two equal and rewrites the file.
//
//go:embed fields.schema
var fieldSchema string

// builtinFields is the parser for the field sets of built-in kinds.
func builtinFields() *typed.Parser {
	r := schemaReader{rest: fieldSchema}
	r.strings = make([]string, r.number())
	for i := range r.strings {
		n := r.number()
		r.strings[i], r.rest = r.rest[:n], r.rest[n:]
	}
	p := &typed.Parser{}
	p.Schema.Types = make([]schema.TypeDef, r.number())
	for i := range p.Schema.Types {
		p.Schema.Types[i] = schema.TypeDef{Name: r.text(), Atom: r.atom()}
	}
	return p
}

// schemaReader reads the file's form: numbers are uvarints, texts are numbers in
// a table at its beginning. It belongs to this program, so that a fault in it is
// a panic.
type schemaReader struct {
	rest    string
	strings []string
}

// Which parts of a value are present.
const (
	hasScalar = 1 << iota
	hasList
	hasMap
)

const (
	hasName = 1 << iota
	hasInlined
	hasRelationship
	isNullable
)

// Kinds of a field's default value.
const (
	noDefault = iota
	textDefault
	numberDefault
	falseDefault
	trueDefault
	mapDefault
)

func (r *schemaReader) number() int {
	// Ten bytes are the longest form.
	n, size := binary.Uvarint([]byte(r.rest[:min(len(r.rest), binary.MaxVarintLen64)]))
	r.rest = r.rest[size:]
	return int(n)
}

func (r *schemaReader) text() string { return r.strings[r.number()] }

func (r *schemaReader) atom() (a schema.Atom) {
	parts := r.number()
	if parts&hasScalar != 0 {
		s := schema.Scalar(r.text())
		a.Scalar = &s
	}
	if parts&hasList != 0 {
		a.List = &schema.List{ElementType: r.ref(), ElementRelationship: schema.ElementRelationship(r.text())}
		for range r.number() {
			a.List.Keys = append(a.List.Keys, r.text())
		}
	}
	if parts&hasMap != 0 {
		a.Map = &schema.Map{ElementType: r.ref(), ElementRelationship: schema.ElementRelationship(r.text())}
		if n := r.number(); n > 0 {
			a.Map.Fields = make([]schema.StructField, n)
		}
		for i := range a.Map.Fields {
			a.Map.Fields[i] = schema.StructField{Name: r.text(), Type: r.ref(), Default: r.value()}
		}
	}
	return a
}

func (r *schemaReader) ref() (t schema.TypeRef) {
	parts := r.number()
	if parts&hasName != 0 {
		// Equal references are equal keys of the library's cache.
		t.NamedType = &r.strings[r.number()]
	}
	if parts&hasInlined != 0 {
		t.Inlined = r.atom()
	}
	if parts&hasRelationship != 0 {
		s := schema.ElementRelationship(r.text())
		t.ElementRelationship = &s
	}
	t.Nullable = parts&isNullable != 0
	return t
}

func (r *schemaReader) value() any {
	switch r.number() {
	case textDefault:
		return r.text()
	case numberDefault:
		return r.number()
	case falseDefault:
		return false
	case trueDefault:
		return true
	case mapDefault:
		m := map[any]any{}
		for range r.number() {
			k := r.text()
			m[k] = r.value()
		}
		return m
	}
	return nil
}
