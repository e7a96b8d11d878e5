package object

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// Selector chooses objects of one kind by labels and fields. The zero value
// chooses all.
type Selector struct {
	labels labels.Selector      // nil: all
	fields []fields.Requirement // all must hold
	def    *Definition
	custom bool // needs Definition.Fields, not metadata alone
}

// ParseSelector reads the string forms of a list's labelSelector and
// fieldSelector, which names fields as this version does. Unknown fields are
// refused in upstream's words.
func (v *Version) ParseSelector(label, field string) (Selector, error) {
	names := v.codec.def.FieldNames
	if v.served != nil && v.served.FieldNames != nil {
		names = v.served.FieldNames
	}
	return parseSelector(v.codec.def, names, label, field)
}

// ParseSelector does the same in the version in which objects are kept.
func ParseSelector(d *Definition, label, field string) (Selector, error) {
	return parseSelector(d, d.FieldNames, label, field)
}

func parseSelector(d *Definition, names []string, label, field string) (Selector, error) {
	s := Selector{def: d}
	if label != "" {
		l, err := labels.Parse(label)
		if err != nil {
			return s, err
		}
		if !l.Empty() {
			s.labels = l
		}
	}
	if field == "" {
		return s, nil
	}
	f, err := fields.ParseSelector(field)
	if err != nil {
		return s, err
	}
	s.fields = f.Requirements()
	// A kind without labels of its own has those of all, in whatever scope.
	plain := names == nil
	if plain {
		_, custom := d.New().(*unstructured.Unstructured)
		plain = !custom
	}
	for i, r := range s.fields {
		if alias := d.FieldAliases[r.Field]; alias != "" {
			r.Field = alias
			s.fields[i] = r
		}
		switch {
		case r.Field == "metadata.name":
		case r.Field == "metadata.namespace" && (plain || d.Namespaced && !d.NoNamespaceField):
		case slices.Contains(names, r.Field) && d.Fields != nil:
			s.custom = true
		case plain:
			return s, fmt.Errorf("%q is not a known field selector: only %q, %q", r.Field, "metadata.name", "metadata.namespace")
		case d.UnknownField != "":
			return s, fmt.Errorf(d.UnknownField, r.Field)
		default:
			return s, fmt.Errorf("field label not supported: %s", r.Field)
		}
	}
	return s, nil
}

// Empty reports whether every object is chosen.
func (s Selector) Empty() bool { return s.labels == nil && len(s.fields) == 0 }

// Exact returns the value a field must equal, if the selector demands one.
func (s Selector) Exact(field string) (string, bool) {
	for _, r := range s.fields {
		if r.Field == field && (r.Operator == selection.Equals || r.Operator == selection.DoubleEquals) {
			return r.Value, true
		}
	}
	return "", false
}

// Sole returns the test that the selector makes of a field, if it looks at
// nothing else.
func (s Selector) Sole(field string) (holds func(value string) bool, ok bool) {
	if s.labels != nil || len(s.fields) != 1 || s.fields[0].Field != field {
		return nil, false
	}
	return func(value string) bool { return holdsFor(s.fields[0], value) }, true
}

// MetadataOnly reports whether an object's metadata is enough to decide.
func (s Selector) MetadataOnly() bool { return !s.custom }

// MatchesMeta decides by metadata alone; only for MetadataOnly selectors.
func (s Selector) MatchesMeta(m metav1.Object) bool {
	if s.labels != nil && !s.labels.Matches(labels.Set(m.GetLabels())) {
		return false
	}
	for _, r := range s.fields {
		if !holdsFor(r, metaField(m, r.Field)) {
			return false
		}
	}
	return true
}

// Matches decides whether the selector chooses an object.
func (s Selector) Matches(o Object) bool {
	if !s.custom {
		return s.MatchesMeta(o)
	}
	if s.labels != nil && !s.labels.Matches(labels.Set(o.GetLabels())) {
		return false
	}
	var set fields.Set
	for _, r := range s.fields {
		var value string
		switch r.Field {
		case "metadata.name", "metadata.namespace":
			value = metaField(o, r.Field)
		default:
			if set == nil {
				set = s.def.Fields(o)
			}
			value = set[r.Field]
		}
		if !holdsFor(r, value) {
			return false
		}
	}
	return true
}

func metaField(m metav1.Object, field string) string {
	if field == "metadata.namespace" {
		return m.GetNamespace()
	}
	return m.GetName()
}

func holdsFor(r fields.Requirement, value string) bool {
	if r.Operator == selection.NotEquals {
		return value != r.Value
	}
	return value == r.Value
}
