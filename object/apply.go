package object

import (
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/managedfields"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// DecodeApply reads an apply configuration, JSON or YAML. With strict it also
// lists duplicate fields; unknown ones are found when it is merged.
func DecodeApply(v *Version, data []byte, strict bool) (*unstructured.Unstructured, []error, error) {
	// Most clients send JSON, and without fault: YAML is read at a tenth of the speed.
	if _, long := longNumbers(data, JSON); len(long) == 0 && !v.codec.custom && fastDecode(v.New(), data) {
		u, err := applyConfiguration(v.Kind, data)
		return u, nil, err
	}
	return decodeApplied(v.Kind, data, strict, func(asJSON []byte) error {
		if v.codec.custom {
			return nil
		}
		return boundQuantities(v.New(), asJSON, JSON, decodeLeniently)
	})
}

func decodeApplied(kind string, data []byte, strict bool, bound func(asJSON []byte) error) (*unstructured.Unstructured, []error, error) {
	asJSON, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, nil, err
	}
	if err := bound(asJSON); err != nil {
		return nil, nil, err
	}
	u, err := applyConfiguration(kind, asJSON)
	if err != nil {
		return nil, nil, err
	}
	if strict {
		if _, err := yaml.YAMLToJSONStrict(data); err != nil {
			return u, []error{fmt.Errorf("error converting YAML to JSON: %w", err)}, nil
		}
	}
	return u, nil, nil
}

// applyConfiguration makes sure of the kind; the library does so of the version.
func applyConfiguration(kind string, data []byte) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &u.Object); err != nil {
		return nil, err
	}
	if u.Object == nil {
		return nil, errors.New("the configuration is not an object")
	}
	if u.GetKind() != kind {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid object type: %v", u.GroupVersionKind()))
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
