package object

import (
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// KeepStatus gives dst the status of src, which stays shared between them.
func KeepStatus(dst, src Object) {
	if d, ok := dst.(*unstructured.Unstructured); ok {
		if status, has := src.(*unstructured.Unstructured).Object["status"]; has {
			d.Object["status"] = status
		} else {
			delete(d.Object, "status")
		}
		return
	}
	if f := reflect.ValueOf(dst).Elem().FieldByName("Status"); f.IsValid() {
		f.Set(reflect.ValueOf(src).Elem().FieldByName("Status"))
	}
}

// ClearStatus empties an object's status.
func ClearStatus(o Object) {
	if u, ok := o.(*unstructured.Unstructured); ok {
		delete(u.Object, "status")
		return
	}
	if f := reflect.ValueOf(o).Elem().FieldByName("Status"); f.IsValid() {
		f.SetZero()
	}
}

// KeepAllButStatus gives dst everything of src but status and metadata, which
// stays shared between them.
func KeepAllButStatus(dst, src Object) {
	if d, ok := dst.(*unstructured.Unstructured); ok {
		s := src.(*unstructured.Unstructured)
		for k := range d.Object {
			if k != "metadata" && k != "status" {
				delete(d.Object, k)
			}
		}
		for k, v := range s.Object {
			if k != "metadata" && k != "status" {
				d.Object[k] = v
			}
		}
		return
	}
	d, s := reflect.ValueOf(dst).Elem(), reflect.ValueOf(src).Elem()
	for i := range d.NumField() {
		switch d.Type().Field(i).Name {
		case "TypeMeta", "ObjectMeta", "Status":
		default:
			d.Field(i).Set(s.Field(i))
		}
	}
}

// ShallowCopy returns a copy whose metadata can be changed field by field;
// everything below is shared with o and must not be touched.
func ShallowCopy(o Object) Object {
	if u, ok := o.(*unstructured.Unstructured); ok {
		c := &unstructured.Unstructured{Object: make(map[string]any, len(u.Object))}
		for k, v := range u.Object {
			c.Object[k] = v
		}
		if m, ok := u.Object["metadata"].(map[string]any); ok {
			meta := make(map[string]any, len(m))
			for k, v := range m {
				meta[k] = v
			}
			c.Object["metadata"] = meta
		}
		return c
	}
	v := reflect.ValueOf(o).Elem()
	c := reflect.New(v.Type())
	c.Elem().Set(v)
	return c.Interface().(Object)
}
