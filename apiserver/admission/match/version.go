package match

import (
	"encoding/json"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/object"
)

// ObjectIn is the object of the write in a version, with its kind; nil when the
// write has none. It may share with the object and must not be changed.
func (r *Request) ObjectIn(k schema.GroupVersionKind) (runtime.Object, error) {
	return r.in(r.Object, k)
}

// OldIn is the same for the object as it was.
func (r *Request) OldIn(k schema.GroupVersionKind) (runtime.Object, error) {
	if r.Old == nil {
		return nil, nil
	}
	return r.in(r.Old, k)
}

func (r *Request) in(o runtime.Object, k schema.GroupVersionKind) (runtime.Object, error) {
	if o == nil {
		return nil, nil
	}
	if r.Body {
		return WithKind(o, k), nil
	}
	if u, ok := o.(*unstructured.Unstructured); ok {
		if u.GroupVersionKind() == k || r.Definition.Dynamic == nil || r.Definition.Dynamic.Convert == nil {
			return u, nil
		}
		return r.Definition.Dynamic.Convert(u, k.GroupVersion())
	}
	v := r.Version.In(k.GroupVersion())
	obj, ok := o.(object.Object)
	if v == nil || !ok {
		return nil, fmt.Errorf("unable to convert to %v: unknown kind", k)
	}
	converted, err := v.FromStorage(obj)
	if err != nil {
		return nil, err
	}
	return WithKind(converted, k), nil
}

// WithKind is an object that says what it is; the argument, which may be
// shared, is left as it is.
func WithKind(o runtime.Object, k schema.GroupVersionKind) runtime.Object {
	v := reflect.ValueOf(o)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return o
	}
	c := reflect.New(v.Elem().Type())
	c.Elem().Set(v.Elem())
	out := c.Interface().(runtime.Object)
	out.GetObjectKind().SetGroupVersionKind(k)
	return out
}

// JSON encodes what ObjectIn and OldIn return; nil for nothing.
func JSON(o runtime.Object) ([]byte, error) {
	if o == nil {
		return nil, nil
	}
	if u, ok := o.(*unstructured.Unstructured); ok {
		return json.Marshal(u.Object)
	}
	return json.Marshal(o)
}

// Decode reads an object in the version k, as it is.
func (r *Request) Decode(data []byte, k schema.GroupVersionKind) (runtime.Object, error) {
	if !r.Body && r.Definition.Dynamic != nil {
		u := &unstructured.Unstructured{}
		_, _, err := unstructured.UnstructuredJSONScheme.Decode(data, nil, u)
		return u, err
	}
	var into runtime.Object
	if r.Body {
		into = reflect.New(reflect.TypeOf(r.Object).Elem()).Interface().(runtime.Object)
	} else {
		v := r.Version.In(k.GroupVersion())
		if v == nil {
			return nil, fmt.Errorf("unable to convert from %v: unknown kind", k)
		}
		into = v.New()
		if said, err := object.KindOf(data, object.JSON); err == nil && said.Kind != "" && said.Version != "" && said != k {
			other := r.Version.In(said.GroupVersion())
			switch {
			case other != nil && said.Kind == k.Kind:
				into, k = other.New(), said
			case r.scheme.ByKind(said) == nil:
				return nil, fmt.Errorf("no kind %q is registered for version %q in scheme %q", said.Kind, said.GroupVersion(), "pkg/api/legacyscheme/scheme.go:30")
			default:
				return nil, fmt.Errorf("converting (%s.%s) to (%s.%s): unknown conversion", said.Version, said.Kind, k.Version, k.Kind)
			}
		}
	}
	if _, err := object.DecodeInto(into, data, object.JSON, false); err != nil {
		return nil, err
	}
	into.GetObjectKind().SetGroupVersionKind(k)
	return into, nil
}

// Set replaces the object of the write by o, which says its kind and belongs to
// the request from now on.
func (r *Request) Set(o runtime.Object) error {
	d := r.Definition
	if r.Body {
		o.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
		assign(r.Object, o)
		return nil
	}
	k := o.GetObjectKind().GroupVersionKind()
	var stored runtime.Object
	if u, ok := o.(*unstructured.Unstructured); ok {
		want := r.Object.GetObjectKind().GroupVersionKind()
		if k != want && k.GroupKind() == want.GroupKind() && d.Dynamic != nil && d.Dynamic.Convert != nil {
			for _, v := range d.Dynamic.Listed {
				if v.GVK() == k && v.Default != nil {
					v.Default(u)
				}
			}
			c, err := d.Dynamic.Convert(u, want.GroupVersion())
			if err != nil {
				return err
			}
			u = c
		}
		switch is := u.GroupVersionKind(); {
		case is == want:
		case is.GroupVersion() == want.GroupVersion():
			return apierrors.NewInvalid(is.GroupKind(), u.GetName(), field.ErrorList{field.Invalid(field.NewPath("kind"), is.Kind, "must be "+want.Kind)})
		default:
			return fmt.Errorf("%v is unstructured and is not suitable for converting to %q", is, want.GroupVersion())
		}
		if m, ok := u.Object["metadata"].(map[string]any); ok {
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(m, &metav1.ObjectMeta{}); err != nil {
				return apierrors.NewInvalid(want.GroupKind(), r.Name, field.ErrorList{field.Invalid(field.NewPath("metadata"), m, err.Error())})
			}
		}
		if _, err := object.Prune(d, u); err != nil {
			return err
		}
		stored = u
	} else {
		v := r.Version.In(k.GroupVersion())
		if v == nil {
			return fmt.Errorf("unable to convert from %v: unknown kind", k)
		}
		o.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
		s, err := v.ToStorage(o)
		if err != nil {
			return err
		}
		stored = s
	}
	if d.Default != nil {
		d.Default(stored.(object.Object))
	}
	r.keepManagers(stored.(object.Object))
	assign(r.Object, stored)
	return nil
}

// keepManagers puts back the managed fields of an object whose new ones cannot
// be read, as upstream does.
func (r *Request) keepManagers(o object.Object) {
	was := r.Object.(object.Object).GetManagedFields()
	if equality.Semantic.DeepEqual(was, o.GetManagedFields()) {
		return
	}
	if err := managedfields.ValidateManagedFields(o.GetManagedFields()); err != nil {
		o.SetManagedFields(was)
		r.Warn(fmt.Sprintf(".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: %v", err))
	}
}

// assign puts the content of one object into another of the same type, of
// which others hold the pointer.
func assign(dst, src runtime.Object) {
	reflect.ValueOf(dst).Elem().Set(reflect.ValueOf(src).Elem())
}
