package object

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/managedfields"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// DecodeApply reads an apply configuration, JSON or YAML. With strict it also
// lists unknown and duplicate fields.
func DecodeApply(v *Version, data []byte, strict bool) (*unstructured.Unstructured, []error, error) {
	// Most clients send JSON, and without fault: YAML is read at a tenth of the speed.
	if _, long := longNumbers(data, JSON); len(long) == 0 && !v.codec.custom && fastDecode(v.New(), data) {
		u, err := applyConfiguration(v, data)
		return u, nil, err
	}
	var unknown []error
	asJSON, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, nil, err
	}
	if !v.codec.custom {
		if err := boundQuantities(v.New(), asJSON, JSON, decodeLeniently); err != nil {
			return nil, nil, err
		}
	}
	u, err := applyConfiguration(v, asJSON)
	if err != nil {
		return nil, nil, err
	}
	if strict {
		if _, err := yaml.YAMLToJSONStrict(data); err != nil {
			unknown = append(unknown, err)
		}
		if !v.codec.custom {
			errs, err := kjson.UnmarshalStrict(asJSON, v.New())
			if err == nil {
				unknown = append(unknown, errs...)
			}
		}
	}
	return u, unknown, nil
}

func applyConfiguration(v *Version, data []byte) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &u.Object); err != nil {
		return nil, err
	}
	switch {
	case u.Object == nil:
		return nil, errors.New("the configuration is not an object")
	case u.GetKind() == "":
		return nil, errors.New("Object 'Kind' is missing")
	case u.GetKind() != v.Kind:
		return nil, fmt.Errorf("the kind of the configuration (%s) is not that of the resource (%s)", u.GetKind(), v.Kind)
	}
	return u, nil
}

// Apply merges an apply configuration into live, which is shared and immutable,
// and returns the result in the storage version. Conflicts are the API's error.
func (m *FieldManagers) Apply(c *Codec, f *managedfields.FieldManager, live Object, applied *unstructured.Unstructured, manager string, force bool) (Object, error) {
	out, err := f.Apply(withKind(c, ShallowCopy(live)), applied, manager, force)
	if err != nil {
		return nil, err
	}
	obj, ok := out.(Object)
	if !ok {
		return nil, fmt.Errorf("cannot apply: the result is a %T", out)
	}
	// The library gives back the live object itself when nothing changed.
	obj = ShallowCopy(obj)
	clearTyped(c, obj)
	return obj, nil
}
