package object

import (
	"reflect"
	"sync"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Sharer makes an object that nobody sees yet share with a published one all
// parts in which the two are equal. Pods of one template then cost what they
// differ in. The zero value is ready for use.
type Sharer struct {
	whole sync.Map // reflect.Type to *sharePlan: those that are complete

	mu    sync.Mutex
	plans map[reflect.Type]*sharePlan
}

// sharePlan is how values of a type are compared and shared.
type sharePlan struct {
	// share makes fresh use the memory of known where they are equal, as far as
	// it may write to it, and reports whether all of it is equal.
	share func(fresh, known reflect.Value, may access) bool
}

// access says what of an object may be written to.
type access int

const (
	readOnly access = iota
	// fieldsOnly: its own fields, but nothing that they refer to. Lists whose
	// elements are equal in parts are replaced by copies.
	fieldsOnly
	// everything: nobody else has any of it.
	everything
)

// below is the access to what a field refers to.
func (a access) below() access {
	if a == everything {
		return everything
	}
	return readOnly
}

// Share replaces parts of fresh by parts of known, which stays as it is. Both
// must be of one type. With owned, nobody else has any part of fresh, as after it
// was read from bytes; else what it refers to may belong to published objects,
// and is not written to.
func (s *Sharer) Share(fresh, known Object, owned bool) {
	f, k := reflect.ValueOf(fresh), reflect.ValueOf(known)
	if f.Type() != k.Type() || f.Kind() != reflect.Pointer || f.Elem().Kind() != reflect.Struct || f.Pointer() == k.Pointer() {
		return
	}
	may := fieldsOnly
	if owned {
		may = everything
	}
	s.of(f.Type().Elem()).share(f.Elem(), k.Elem(), may)
}

// of is the plan of a type, made at its first use.
func (s *Sharer) of(t reflect.Type) *sharePlan {
	if p, ok := s.whole.Load(t); ok {
		return p.(*sharePlan)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plans == nil {
		s.plans = map[reflect.Type]*sharePlan{}
	}
	p := s.plan(t)
	s.whole.Store(t, p)
	return p
}

// plan makes the plans of a type and of all below it. A type that contains
// itself meets its own, unfinished one. s.mu is held.
func (s *Sharer) plan(t reflect.Type) *sharePlan {
	if p := s.plans[t]; p != nil {
		return p
	}
	p := &sharePlan{}
	s.plans[t] = p
	p.share = s.make(t)
	return p
}

func (s *Sharer) make(t reflect.Type) func(f, k reflect.Value, may access) bool {
	switch t {
	case reflect.TypeFor[resource.Quantity]():
		return func(f, k reflect.Value, may access) bool {
			return *f.Addr().Interface().(*resource.Quantity) == *k.Addr().Interface().(*resource.Quantity)
		}
	case reflect.TypeFor[metav1.Time]():
		return func(f, k reflect.Value, may access) bool {
			return f.Addr().Interface().(*metav1.Time).Time == k.Addr().Interface().(*metav1.Time).Time
		}
	case reflect.TypeFor[metav1.MicroTime]():
		return func(f, k reflect.Value, may access) bool {
			return f.Addr().Interface().(*metav1.MicroTime).Time == k.Addr().Interface().(*metav1.MicroTime).Time
		}
	case reflect.TypeFor[metav1.FieldsV1]():
		return func(f, k reflect.Value, may access) bool {
			return f.Addr().Interface().(*metav1.FieldsV1).GetRawString() == k.Addr().Interface().(*metav1.FieldsV1).GetRawString()
		}
	case reflect.TypeFor[map[string]string]():
		return shareStrings
	}
	switch t.Kind() {
	case reflect.String:
		return func(f, k reflect.Value, may access) bool {
			text := k.String()
			if f.String() != text {
				return false
			}
			if may != readOnly {
				f.SetString(text)
			}
			return true
		}
	case reflect.Struct:
		return s.makeStruct(t)
	case reflect.Pointer:
		elem := s.plan(t.Elem())
		return func(f, k reflect.Value, may access) bool {
			if f.IsNil() || k.IsNil() {
				return f.IsNil() && k.IsNil()
			}
			if f.Pointer() == k.Pointer() {
				return true
			}
			if !elem.share(f.Elem(), k.Elem(), may.below()) {
				return false
			}
			if may != readOnly {
				f.Set(k)
			}
			return true
		}
	case reflect.Slice:
		return s.makeSlice(t)
	case reflect.Map:
		return func(f, k reflect.Value, may access) bool {
			if f.IsNil() || k.IsNil() {
				return f.IsNil() && k.IsNil()
			}
			if f.Pointer() != k.Pointer() {
				if f.Len() != k.Len() || !reflect.DeepEqual(f.Interface(), k.Interface()) {
					return false
				}
				if may != readOnly {
					f.Set(k)
				}
			}
			return true
		}
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return func(f, k reflect.Value, _ access) bool { return f.Equal(k) }
	}
	return func(_, _ reflect.Value, _ access) bool { return false }
}

func (s *Sharer) makeStruct(t reflect.Type) func(f, k reflect.Value, may access) bool {
	type field struct {
		index int
		plan  *sharePlan
	}
	var fields []field
	for i := range t.NumField() {
		if !t.Field(i).IsExported() {
			// What cannot be set is compared as a whole.
			return func(f, k reflect.Value, _ access) bool { return reflect.DeepEqual(f.Interface(), k.Interface()) }
		}
		fields = append(fields, field{i, s.plan(t.Field(i).Type)})
	}
	return func(f, k reflect.Value, may access) bool {
		all := true
		for i := range fields {
			if !fields[i].plan.share(f.Field(fields[i].index), k.Field(fields[i].index), may) {
				if all = false; may == readOnly {
					break
				}
			}
		}
		return all
	}
}

func (s *Sharer) makeSlice(t reflect.Type) func(f, k reflect.Value, may access) bool {
	plan, refers := s.plan(t.Elem()), refers(t.Elem())
	return func(f, k reflect.Value, may access) bool {
		if f.IsNil() || k.IsNil() {
			return f.IsNil() && k.IsNil()
		}
		n := min(f.Len(), k.Len())
		all := f.Len() == k.Len()
		if all && (n == 0 || f.Pointer() == k.Pointer()) {
			return true
		}
		if may == everything {
			for i := range n {
				all = plan.share(f.Index(i), k.Index(i), may) && all
			}
		} else {
			for i := 0; all && i < n; i++ {
				all = plan.share(f.Index(i), k.Index(i), readOnly)
			}
			if !all && may == fieldsOnly && refers && n > 0 {
				copied := reflect.MakeSlice(t, f.Len(), f.Len())
				reflect.Copy(copied, f)
				for i := range n {
					plan.share(copied.Index(i), k.Index(i), may)
				}
				f.Set(copied)
			}
		}
		if all && may != readOnly {
			f.Set(k)
		}
		return all
	}
}

// refers reports whether values of a type have memory outside themselves.
func refers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return true
	case reflect.Struct:
		for i := range t.NumField() {
			if refers(t.Field(i).Type) {
				return true
			}
		}
	}
	return false
}

func shareStrings(f, k reflect.Value, may access) bool {
	if f.IsNil() || k.IsNil() {
		return f.IsNil() && k.IsNil()
	}
	if f.Pointer() == k.Pointer() {
		return true
	}
	a, b := f.Interface().(map[string]string), k.Interface().(map[string]string)
	if len(a) != len(b) {
		return false
	}
	for key, v := range a {
		if w, ok := b[key]; !ok || v != w {
			return false
		}
	}
	if may != readOnly {
		f.Set(k)
	}
	return true
}
