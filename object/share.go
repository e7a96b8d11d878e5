package object

import (
	"maps"
	"reflect"
	"sync"
	"time"
	"unsafe"

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

// sharer makes fresh use the memory of known, both pointers to values of one type,
// where they are equal, as far as it may write to it, and reports whether all of
// it is equal.
type sharer func(fresh, known unsafe.Pointer, may access) bool

// sharePlan is how values of a type are compared and shared.
type sharePlan struct{ share sharer }

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
	s.of(f.Type().Elem()).share(f.UnsafePointer(), k.UnsafePointer(), may)
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

func (s *Sharer) make(t reflect.Type) sharer {
	switch t {
	case reflect.TypeFor[resource.Quantity]():
		return alikeAs[resource.Quantity]
	case reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime]():
		return alikeAs[time.Time] // their only field
	case reflect.TypeFor[metav1.FieldsV1]():
		return func(f, k unsafe.Pointer, _ access) bool {
			return (*metav1.FieldsV1)(f).GetRawString() == (*metav1.FieldsV1)(k).GetRawString()
		}
	}
	switch t.Kind() {
	case reflect.String:
		return func(f, k unsafe.Pointer, may access) bool {
			text := *(*string)(k)
			if *(*string)(f) != text {
				return false
			}
			if may != readOnly && unsafe.StringData(*(*string)(f)) != unsafe.StringData(text) {
				*(*string)(f) = text
			}
			return true
		}
	case reflect.Struct:
		return s.makeStruct(t)
	case reflect.Pointer:
		elem := s.plan(t.Elem())
		return shareReference(func(f, k unsafe.Pointer, may access) bool { return elem.share(f, k, may.below()) })
	case reflect.Slice:
		return s.makeSlice(t)
	case reflect.Map:
		if t.Key().Kind() == reflect.String {
			switch {
			case t.Elem().Kind() == reflect.String:
				return shareMap(maps.Equal[map[string]string])
			case t.Elem() == reflect.TypeFor[resource.Quantity]():
				return shareMap(maps.Equal[map[string]resource.Quantity])
			}
		}
		whole := compareWhole(t)
		return func(f, k unsafe.Pointer, may access) bool {
			x, y := *(*unsafe.Pointer)(f), *(*unsafe.Pointer)(k)
			if x == y {
				return true
			}
			if x == nil || y == nil || !whole(f, k, may) {
				return false
			}
			if may != readOnly {
				*(*unsafe.Pointer)(f) = y
			}
			return true
		}
	case reflect.Bool, reflect.Int8, reflect.Uint8:
		return alikeAs[uint8]
	case reflect.Int32, reflect.Uint32:
		return alikeAs[uint32]
	case reflect.Int, reflect.Uint, reflect.Int64, reflect.Uint64:
		return alikeAs[uint64]
	case reflect.Int16, reflect.Uint16, reflect.Float32, reflect.Float64:
		return compareWhole(t)
	}
	return func(_, _ unsafe.Pointer, _ access) bool { return false }
}

// alikeAs compares values that have nothing to share as such of type T.
func alikeAs[T comparable](f, k unsafe.Pointer, _ access) bool { return *(*T)(f) == *(*T)(k) }

// compareWhole leaves values of a type to the library and shares nothing of them.
func compareWhole(t reflect.Type) sharer {
	return func(f, k unsafe.Pointer, _ access) bool {
		return reflect.DeepEqual(reflect.NewAt(t, f).Elem().Interface(), reflect.NewAt(t, k).Elem().Interface())
	}
}

// shareReference shares what two pointers point to.
func shareReference(elem sharer) sharer {
	return func(f, k unsafe.Pointer, may access) bool {
		x, y := *(*unsafe.Pointer)(f), *(*unsafe.Pointer)(k)
		if x == y {
			return true
		}
		if x == nil || y == nil || !elem(x, y, may) {
			return false
		}
		if may != readOnly {
			*(*unsafe.Pointer)(f) = y
		}
		return true
	}
}

// shareMap shares maps whose keys are strings of any type.
func shareMap[V any](equal func(a, b map[string]V) bool) sharer {
	return func(f, k unsafe.Pointer, may access) bool {
		x, y := *(*map[string]V)(f), *(*map[string]V)(k)
		switch {
		case *(*unsafe.Pointer)(f) == *(*unsafe.Pointer)(k):
			return true
		case x == nil || y == nil || !equal(x, y):
			return false
		case may != readOnly:
			*(*map[string]V)(f) = y
		}
		return true
	}
}

func (s *Sharer) makeStruct(t reflect.Type) sharer {
	type part struct {
		offset uintptr
		words  uintptr // that the field consists of, 0 where that does not matter
		plan   *sharePlan
	}
	parts := make([]part, t.NumField())
	for i := range parts {
		f := t.Field(i)
		if !f.IsExported() {
			return compareWhole(t)
		}
		parts[i] = part{f.Offset, words(f.Type), s.plan(f.Type)}
	}
	return func(f, k unsafe.Pointer, may access) bool {
		all := true
		for i := range parts {
			p := &parts[i]
			x, y := unsafe.Add(f, p.offset), unsafe.Add(k, p.offset)
			// Most fields of most objects are not set in either.
			switch p.words {
			case 1:
				if *(*uintptr)(x) == *(*uintptr)(y) {
					continue
				}
			case 2:
				if *(*[2]uintptr)(x) == *(*[2]uintptr)(y) {
					continue
				}
			case 3:
				if *(*[3]uintptr)(x) == *(*[3]uintptr)(y) {
					continue
				}
			}
			if !p.plan.share(x, y, may) {
				if all = false; may == readOnly {
					break
				}
			}
		}
		return all
	}
}

// words is how many machine words a value of a type consists of that is equal to
// another, and shares all it refers to, when these are equal; else 0.
func words(t reflect.Type) uintptr {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.String, reflect.Slice:
		return t.Size() / unsafe.Sizeof(uintptr(0))
	}
	return 0
}

func (s *Sharer) makeSlice(t reflect.Type) sharer {
	plan, refers, size := s.plan(t.Elem()), refers(t.Elem()), t.Elem().Size()
	at := func(list unsafe.Pointer, i int) unsafe.Pointer { return unsafe.Add(list, uintptr(i)*size) }
	return func(f, k unsafe.Pointer, may access) bool {
		x, y := *(*[]struct{})(f), *(*[]struct{})(k) // their lengths are right for any element
		if x == nil || y == nil {
			return x == nil && y == nil
		}
		p, q := unsafe.Pointer(unsafe.SliceData(x)), unsafe.Pointer(unsafe.SliceData(y))
		n := min(len(x), len(y))
		all := len(x) == len(y)
		if all && (n == 0 || p == q) {
			return true
		}
		if may == everything {
			for i := range n {
				all = plan.share(at(p, i), at(q, i), may) && all
			}
		} else {
			for i := 0; all && i < n; i++ {
				all = plan.share(at(p, i), at(q, i), readOnly)
			}
			if !all && may == fieldsOnly && refers && n > 0 {
				list := reflect.NewAt(t, f).Elem()
				copied := reflect.MakeSlice(t, list.Len(), list.Len())
				reflect.Copy(copied, list)
				for i := range n {
					plan.share(at(copied.UnsafePointer(), i), at(q, i), may)
				}
				list.Set(copied)
			}
		}
		if all && may != readOnly {
			*(*[]struct{})(f) = y
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
