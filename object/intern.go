package object

import (
	"reflect"
	"sync"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Interner makes objects that were decoded one by one share what they have in
// common: names of images, labels, owners, field sets. A pod out of many of one
// template shrinks by a fifth. The zero value is ready for use.
type Interner struct {
	plans sync.Map // reflect.Type to bool: whether there are strings below

	mu     sync.Mutex
	fields map[string]*metav1.FieldsV1
}

const (
	// longestInterned: longer texts are rarely the same.
	longestInterned = 128
	internedFields  = 1024
)

// own are fields whose values differ from object to object.
var own = map[string]bool{
	"Name": true, "UID": true, "ResourceVersion": true, "ContainerID": true, "PodIP": true, "IP": true, "Message": true, "SelfLink": true,
}

// Intern replaces the strings of an object nobody else sees yet. Maps of strings
// are filled anew.
func (n *Interner) Intern(o Object) {
	v := reflect.ValueOf(o)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return
	}
	n.walk(v.Elem())
}

func (n *Interner) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if s := v.String(); s != "" && len(s) <= longestInterned {
			v.SetString(unique.Make(s).Value())
		}
	case reflect.Struct:
		t := v.Type()
		for i := range v.NumField() {
			f := v.Field(i)
			if !f.CanSet() || f.IsZero() || !n.hasStrings(f.Type()) {
				continue
			}
			if f.Kind() == reflect.String && own[t.Field(i).Name] && t == reflect.TypeFor[metav1.ObjectMeta]() {
				continue
			}
			if f.Kind() == reflect.String && own[t.Field(i).Name] && t.Field(i).Name != "Name" {
				continue
			}
			n.walk(f)
		}
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		if f, ok := v.Interface().(*metav1.FieldsV1); ok {
			v.Set(reflect.ValueOf(n.sharedFields(f)))
			return
		}
		n.walk(v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			n.walk(v.Index(i))
		}
	case reflect.Map:
		if m, ok := v.Interface().(map[string]string); ok && m != nil {
			fresh := make(map[string]string, len(m))
			for k, s := range m {
				if len(k) <= longestInterned && len(s) <= longestInterned {
					k, s = unique.Make(k).Value(), unique.Make(s).Value()
				}
				fresh[k] = s
			}
			v.Set(reflect.ValueOf(fresh))
		}
	}
}

// hasStrings reports whether a value of the type may hold strings to share.
func (n *Interner) hasStrings(t reflect.Type) bool {
	if known, ok := n.plans.Load(t); ok {
		return known.(bool)
	}
	has := false
	switch t.Kind() {
	case reflect.String, reflect.Map:
		has = true
	case reflect.Pointer, reflect.Slice:
		has = t.Elem().Kind() != reflect.Uint8 && (t.Elem().Kind() == reflect.Struct || n.hasStrings(t.Elem()))
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if f.IsExported() && (f.Type.Kind() == reflect.String || n.hasStrings(f.Type)) {
				has = true
				break
			}
		}
	}
	n.plans.Store(t, has)
	return has
}

func (n *Interner) sharedFields(f *metav1.FieldsV1) *metav1.FieldsV1 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if had := n.fields[string(f.GetRawBytes())]; had != nil {
		return had
	}
	if n.fields == nil || len(n.fields) >= internedFields {
		n.fields = map[string]*metav1.FieldsV1{}
	}
	n.fields[f.GetRawString()] = f
	return f
}
