package object

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Format is an encoding of request and response bodies.
type Format int

// The formats of the API.
const (
	JSON Format = iota
	YAML
	Protobuf
	CBOR
)

// Decoded is a body that was read.
type Decoded struct {
	Object runtime.Object
	// GVK is what the body itself says; empty where it says nothing.
	GVK schema.GroupVersionKind
	// Strict lists unknown and duplicate fields, when asked for.
	Strict []error
}

// DecodeInto reads a body into an empty object. Unknown and duplicate fields are
// collected when strict is true, else ignored.
func DecodeInto(into runtime.Object, data []byte, f Format, strict bool) (Decoded, error) {
	d := Decoded{Object: into}
	switch f {
	case Protobuf:
		gvk, raw, err := OpenEnvelope(data)
		if err != nil {
			return d, err
		}
		d.GVK = gvk
		m, ok := into.(message)
		if !ok {
			// As upstream words it, though nothing is encoded here.
			return d, fmt.Errorf("object %T does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message", into)
		}
		if recursive(reflect.TypeOf(into)) && tooDeep(raw) {
			return d, fmt.Errorf("cannot read %T: exceeded max depth", into)
		}
		if err := boundQuantities(into, raw, f, func(o runtime.Object, b []byte) error { return o.(message).Unmarshal(b) }); err != nil {
			return d, fmt.Errorf("cannot read %T: %w", into, err)
		}
		if err := m.Unmarshal(raw); err != nil {
			return d, fmt.Errorf("cannot read %T: %w", into, err)
		}
		clearKind(into)
		return d, nil
	case CBOR:
		err := d.decodeCBOR(into, data, strict)
		return d, err
	case YAML:
		convert := yaml.YAMLToJSON
		if strict {
			// Duplicate keys are lost on the way to JSON.
			if _, err := yaml.YAMLToJSONStrict(data); err != nil {
				if _, lax := yaml.YAMLToJSON(data); lax == nil {
					d.Strict = append(d.Strict, err)
				}
			}
		}
		var err error
		if data, err = convert(data); err != nil {
			return d, err
		}
	}
	err := d.decodeJSON(into, data, strict)
	return d, err
}

func (d *Decoded) decodeJSON(into runtime.Object, data []byte, strict bool) error {
	var target any = into
	u, custom := into.(*unstructured.Unstructured)
	if custom {
		u.Object = nil
		target = &u.Object
	}
	if !custom {
		if err := boundQuantities(into, data, JSON, decodeLeniently); err != nil {
			return err
		}
	}
	if !custom && fastDecode(target, data) {
		d.GVK = into.GetObjectKind().GroupVersionKind()
		clearKind(into)
		return nil
	}
	if strict {
		errs, err := kjson.UnmarshalStrict(data, target)
		if err != nil {
			return err
		}
		d.Strict = append(d.Strict, errs...)
	} else if err := kjson.UnmarshalCaseSensitivePreserveInts(data, target); err != nil {
		return err
	}
	if custom {
		return d.custom(u, strict)
	}
	d.GVK = into.GetObjectKind().GroupVersionKind()
	clearKind(into)
	return nil
}

// custom looks at an object of a custom kind that was read.
func (d *Decoded) custom(u *unstructured.Unstructured, strict bool) error {
	if u.Object == nil {
		return errors.New("body is not an object")
	}
	d.GVK = u.GroupVersionKind()
	unknown, err := knownMetadata(u)
	if strict {
		d.Strict = append(d.Strict, unknown...)
	}
	return err
}

func decodeLeniently(into runtime.Object, data []byte) error {
	return kjson.UnmarshalCaseSensitivePreserveInts(data, into)
}

// knownMetadata reduces the metadata of a map object to what ObjectMeta knows,
// without what is empty, and returns what it did not know.
func knownMetadata(u *unstructured.Unstructured) (unknown []error, err error) {
	raw, ok := u.Object["metadata"]
	if !ok {
		return nil, nil
	}
	data, err := json.Marshal(map[string]any{"metadata": raw})
	if err != nil {
		return nil, err
	}
	var known struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	if unknown, err = kjson.UnmarshalStrict(data, &known); err != nil {
		// Upstream reads the metadata alone, which the text of its error shows.
		if data, err := json.Marshal(raw); err == nil {
			if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &metav1.ObjectMeta{}); err != nil {
				return nil, err
			}
		}
		return nil, err
	}
	if m, ok := raw.(map[string]any); ok && len(unknown) == 0 && !sparse(m) {
		return nil, nil
	}
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&known.Metadata)
	if err != nil {
		return nil, err
	}
	if m["creationTimestamp"] == nil {
		delete(m, "creationTimestamp")
	}
	u.Object["metadata"] = m
	return unknown, nil
}

// sparse reports whether metadata has fields without a value.
func sparse(metadata map[string]any) bool {
	for _, v := range metadata {
		switch v := v.(type) {
		case string:
			if v == "" {
				return true
			}
		case map[string]any:
			if len(v) == 0 || hasNull(v) {
				return true
			}
		case []any:
			if len(v) == 0 || hasNull(v) {
				return true
			}
		case nil:
			return true
		}
	}
	return false
}

func hasNull(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			if hasNull(x) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, hasNull)
	case nil:
		return true
	}
	return false
}

// MapFaults is what upstream finds wrong with the result of a strategic merge
// patch, which it reads from a map and not from JSON: other texts. Where that
// finds nothing, it is what reading JSON found.
func MapFaults(v *Version, data []byte, strict bool, faults []error, fault error) ([]error, error) {
	if unescaped, long := longNumbers(data, JSON); len(long) > 0 {
		if err := boundQuantitiesAt(v.New(), unescaped, long, decodeLeniently); errors.Is(err, resource.ErrSuffix) {
			return nil, err
		}
		data = withoutLong(unescaped, long) // what else is wrong with it
	}
	var fields map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &fields); err != nil {
		return faults, fault
	}
	err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(fields, v.New(), strict)
	if many, ok := runtime.AsStrictDecodingError(err); ok && fault == nil {
		return many.Errors(), nil
	}
	if err != nil && fault != nil {
		return nil, err
	}
	return faults, fault
}

// Prune runs the kind's own pruning on an object and returns what it removed as
// strict decoding errors.
func Prune(d *Definition, o Object) (unknown []error, err error) {
	if d.Prune == nil {
		return nil, nil
	}
	paths, err := d.Prune(o)
	for _, path := range paths {
		unknown = append(unknown, fmt.Errorf("unknown field %q", path))
	}
	return unknown, err
}

func clearKind(o runtime.Object) { o.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{}) }

// KindOf reads only what kind a body says it is. Errors are in upstream's words.
func KindOf(data []byte, f Format) (schema.GroupVersionKind, error) {
	switch f {
	case Protobuf:
		gvk, _, err := OpenEnvelope(data)
		return gvk, err
	case CBOR:
		return cborKind(data)
	}
	if f == YAML {
		var err error
		if data, err = yaml.YAMLToJSON(data); err != nil {
			return schema.GroupVersionKind{}, err
		}
	}
	// Its type is in the texts of errors: it is upstream's.
	var k struct {
		APIVersion string `json:"apiVersion,omitempty"`
		Kind       string `json:"kind,omitempty"`
	}
	if err := json.Unmarshal(data, &k); err != nil {
		return schema.GroupVersionKind{}, fmt.Errorf("couldn't get version/kind; json parse error: %w", err)
	}
	gv, err := schema.ParseGroupVersion(k.APIVersion)
	return gv.WithKind(k.Kind), err
}

// decodeMap reads a JSON object with integers kept as int64.
func decodeMap(data []byte) (map[string]any, error) {
	var m map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &m); err != nil {
		return nil, err
	}
	return m, nil
}
