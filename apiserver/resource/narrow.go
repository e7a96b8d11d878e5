package resource

import (
	"encoding/json"
	"reflect"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"sagong/object"
)

// named are the fields that a patch names, by their names in JSON: with the
// fields named inside them, or nil when the field counts as a whole.
type named map[string]named

// fieldsNamed says which fields a patch can change or looks at; ok is false when
// that cannot be told apart from the whole object, or something is wrong. Of a
// merge patch it gives what it read as well.
func fieldsNamed(p Patch) (n named, merge map[string]any, ok bool) {
	switch p.Type {
	case types.JSONPatchType:
		n, ok = fieldsOfOperations(p.Data)
		return n, nil, ok
	case types.MergePatchType, types.StrategicMergePatchType:
		merge, faults, err := p.fields()
		if err != nil || merge == nil || len(faults) > 0 {
			return nil, nil, false
		}
		n = fieldsOfMerge(merge)
		return n, merge, n != nil
	}
	return nil, nil, false
}

// fieldsOfMerge is nil when a directive concerns all fields at this level.
func fieldsOfMerge(patch map[string]any) named {
	n := named{}
	for key, value := range patch {
		if directive, field, ok := strings.Cut(key, "/"); ok && strings.HasPrefix(directive, "$") {
			n[field] = nil // "$setElementOrder/containers": how to merge that list
			continue
		}
		if strings.HasPrefix(key, "$") {
			return nil
		}
		if inside, ok := value.(map[string]any); ok {
			if _, whole := n[key]; !whole {
				n[key] = fieldsOfMerge(inside)
			}
			continue
		}
		n[key] = nil
	}
	return n
}

// fieldsOfOperations takes the first two parts of each path (RFC 6901).
func fieldsOfOperations(data []byte) (named, bool) {
	var operations []struct{ Path, From *string }
	if err := json.Unmarshal(data, &operations); err != nil {
		return nil, false
	}
	n := named{}
	for _, o := range operations {
		for _, path := range []*string{o.Path, o.From} {
			if path == nil {
				continue
			}
			parts := strings.SplitN(*path, "/", 4)
			if len(parts) < 2 || parts[0] != "" || strings.Contains(*path, "~") {
				return nil, false
			}
			inside, seen := n[parts[1]]
			switch {
			case len(parts) == 2, seen && inside == nil:
				n[parts[1]] = nil
			case inside == nil:
				n[parts[1]] = named{parts[2]: nil}
			default:
				inside[parts[2]] = nil
			}
		}
	}
	return n, true
}

// patchNamed applies a patch to the fields that it names alone, which spares
// writing and reading the rest of the object: a status of 1 KB in a pod of 5. It
// gives up where anything is wrong, so that the error is of the whole object.
func patchNamed(v *object.Version, old object.Object, p Patch) (object.Object, bool) {
	if !v.Storage() {
		return nil, false
	}
	n, merge, ok := fieldsNamed(p)
	if !ok {
		return nil, false
	}
	reduced := v.New()
	if reflect.TypeOf(reduced) != reflect.TypeOf(old) {
		return nil, false
	}
	copyNamed(reflect.ValueOf(reduced).Elem(), reflect.ValueOf(old).Elem(), n)
	before, err := wholeObject(v, reduced.(object.Object))
	if err != nil {
		return nil, false
	}
	var after []byte
	var faults []error
	if p.Type == types.StrategicMergePatchType {
		after, err = strategic(before, merge, reduced)
	} else {
		after, faults, err = applyPatch(v, before, p)
	}
	if err != nil || len(faults) > 0 {
		return nil, false
	}
	changed, unknown, err := decodePatched(v, after, p)
	if err != nil || len(unknown) > 0 {
		return nil, false
	}
	obj := old.DeepCopyObject().(object.Object)
	copyNamed(reflect.ValueOf(obj).Elem(), reflect.ValueOf(changed).Elem(), n)
	return obj, true
}

// fieldsOwned adds what a set of managed fields names; nil stands for all fields
// at this level.
func fieldsOwned(n named, set map[string]any) named {
	if n == nil {
		return nil
	}
	for key, value := range set {
		if key == "." {
			continue
		}
		field, ok := strings.CutPrefix(key, "f:")
		if !ok {
			return nil // items of a list, or a value in a set
		}
		have, seen := n[field]
		if !seen {
			// Given up altogether: with it goes what nobody owns inside.
			n[field] = nil
			continue
		}
		inside, _ := value.(map[string]any)
		if n[field] = nil; len(inside) > 0 {
			n[field] = fieldsOwned(have, inside)
		}
	}
	return n
}

// fieldsApplied are those an apply configuration names and those its manager has
// applied before, which it may take away. Metadata always counts as a whole: it
// has the managed fields, and what kubectl notes of a last configuration.
func fieldsApplied(live object.Object, applied *unstructured.Unstructured, manager string) (named, bool) {
	n := fieldsOfMerge(applied.Object)
	for _, entry := range live.GetManagedFields() {
		if entry.Manager != manager || entry.Operation != metav1.ManagedFieldsOperationApply || entry.FieldsV1 == nil {
			continue
		}
		var set map[string]any
		if err := json.Unmarshal(entry.FieldsV1.Raw, &set); err != nil {
			return nil, false
		}
		n = fieldsOwned(n, set)
	}
	if n == nil {
		return nil, false
	}
	n["metadata"] = nil
	return n, true
}

// applyTo merges an apply configuration into live. The library walks the whole
// object some ten times: it is given no more of it than the configuration can
// change, for what happens to a field does not depend on its neighbours.
func (e *Engine) applyTo(t Target, f *managedfields.FieldManager, live object.Object, applied *unstructured.Unstructured, manager string, force bool) (object.Object, error) {
	whole := func() (object.Object, error) {
		return e.fields.Apply(t.Codec, f, live, applied.DeepCopy(), manager, force)
	}
	if t.Custom() || !t.WireVersion().Storage() || len(live.GetManagedFields()) == 0 {
		return whole()
	}
	n, ok := fieldsApplied(live, applied, manager)
	if !ok {
		return whole()
	}
	part := t.New()
	copyNamed(reflect.ValueOf(part).Elem(), reflect.ValueOf(live).Elem(), n)
	changed, err := e.fields.Apply(t.Codec, f, part, applied.DeepCopy(), manager, force)
	if err != nil {
		return whole() // an error is of the whole object
	}
	obj := live.DeepCopyObject().(object.Object)
	copyNamed(reflect.ValueOf(obj).Elem(), reflect.ValueOf(changed).Elem(), n)
	if t.Default != nil {
		t.Default(obj) // some fields follow others, such as the two names of a service account
	}
	return obj, nil
}

// twins are two names of one field: defaults set each to the other.
var twins = map[string]string{"serviceAccountName": "serviceAccount", "serviceAccount": "serviceAccountName"}

// copyNamed copies the named fields of one struct to another of its type.
func copyNamed(to, from reflect.Value, n named) {
	fields := fieldsOf(to.Type())
	for name, inside := range n {
		if twin := twins[name]; twin != "" && fields[twin] != nil {
			to.FieldByIndex(fields[twin]).Set(from.FieldByIndex(fields[twin]))
		}
		index, ok := fields[name]
		if !ok {
			continue // an unknown field: reading the result will say so
		}
		t, f := to.FieldByIndex(index), from.FieldByIndex(index)
		if inside != nil && t.Kind() == reflect.Struct && !t.Addr().Type().Implements(marshaler) {
			copyNamed(t, f, inside)
			continue
		}
		t.Set(f)
	}
}

var marshaler = reflect.TypeFor[json.Marshaler]()

var fieldIndexes sync.Map // reflect.Type -> map[string][]int

// fieldsOf is where a struct has the fields that JSON knows by name.
func fieldsOf(t reflect.Type) map[string][]int {
	if known, ok := fieldIndexes.Load(t); ok {
		return known.(map[string][]int)
	}
	fields := map[string][]int{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "" && f.Anonymous && f.Type.Kind() == reflect.Struct:
			for inner, index := range fieldsOf(f.Type) {
				fields[inner] = append([]int{i}, index...)
			}
		case name != "" && name != "-":
			fields[name] = []int{i}
		}
	}
	fieldIndexes.Store(t, fields)
	return fields
}
