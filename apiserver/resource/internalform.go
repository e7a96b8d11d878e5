package resource

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// internalForm shows a struct of k8s.io/api as upstream's errors do. Upstream
// validates internal types, whose fields have no JSON names and are never left
// out: {"Type":"Foo","RollingUpdate":null}.
type internalForm struct{ v reflect.Value }

// showInternal gives the values that errors show their internal form.
func showInternal(errs field.ErrorList) field.ErrorList {
	for _, e := range errs {
		if v := reflect.ValueOf(e.BadValue); v.IsValid() && ofAPI(v.Type()) {
			e.BadValue = internalForm{v}
		}
	}
	return errs
}

// ofAPI reports whether a type is a struct of k8s.io/api, or made of such.
func ofAPI(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct && strings.HasPrefix(t.PkgPath(), "k8s.io/api/")
}

// MarshalJSON implements json.Marshaler.
func (f internalForm) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	err := writeInternal(&b, f.v)
	return b.Bytes(), err
}

func writeInternal(b *bytes.Buffer, v reflect.Value) error {
	t := v.Type()
	switch {
	case !ofAPI(t):
		j, err := json.Marshal(v.Interface())
		b.Write(j)
		return err
	case t.Kind() == reflect.Struct:
		b.WriteByte('{')
		err := writeFields(b, v, new(int))
		b.WriteByte('}')
		return err
	case v.IsNil():
		b.WriteString("null")
		return nil
	case t.Kind() == reflect.Pointer:
		return writeInternal(b, v.Elem())
	case t.Kind() == reflect.Map:
		of := map[string]internalForm{} // encoding/json orders the keys
		for m := v.MapRange(); m.Next(); {
			of[m.Key().String()] = internalForm{m.Value()}
		}
		j, err := json.Marshal(of)
		b.Write(j)
		return err
	}
	b.WriteByte('[')
	for i := range v.Len() {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := writeInternal(b, v.Index(i)); err != nil {
			return err
		}
	}
	b.WriteByte(']')
	return nil
}

// writeFields writes the fields of a struct, those of embedded ones among them.
func writeFields(b *bytes.Buffer, v reflect.Value, n *int) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous && ofAPI(f.Type) {
			if err := writeFields(b, v.Field(i), n); err != nil {
				return err
			}
			continue
		}
		if *n++; *n > 1 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + f.Name + `":`)
		if err := writeInternal(b, v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}
