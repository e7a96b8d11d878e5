// Package equal compares values of API types as
// k8s.io/apimachinery/pkg/api/equality.Semantic does, with what two values share
// taken as equal without a look: two versions of an object share most of it.
package equal

import (
	"reflect"
	"sync"
	"unsafe"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Semantic reports whether *a and *b mean the same: quantities of one value are
// equal in whatever way they are written, and so are nil and empty lists.
func Semantic[T any](a, b *T) bool {
	if a == nil || b == nil || a == b {
		return a == b
	}
	return of(reflect.TypeFor[T]())(unsafe.Pointer(a), unsafe.Pointer(b))
}

// comparer compares the values at a and b.
type comparer func(a, b unsafe.Pointer) bool

var comparers sync.Map // reflect.Type -> comparer

// of is compiled once for each type.
func of(t reflect.Type) comparer {
	if c, ok := comparers.Load(t); ok {
		return c.(comparer)
	}
	// A type may contain itself: until it is compiled, it is found here.
	var compiled comparer
	var ready sync.WaitGroup
	ready.Add(1)
	c, loaded := comparers.LoadOrStore(t, comparer(func(a, b unsafe.Pointer) bool {
		ready.Wait()
		return compiled(a, b)
	}))
	if loaded {
		return c.(comparer)
	}
	compiled = compile(t)
	ready.Done()
	comparers.Store(t, compiled)
	return compiled
}

func compile(t reflect.Type) comparer {
	switch t {
	case reflect.TypeFor[resource.Quantity]():
		return func(a, b unsafe.Pointer) bool {
			return sameQuantity(*(*resource.Quantity)(a), *(*resource.Quantity)(b))
		}
	case reflect.TypeFor[metav1.Time]():
		return func(a, b unsafe.Pointer) bool { return (*metav1.Time)(a).UTC() == (*metav1.Time)(b).UTC() }
	case reflect.TypeFor[metav1.MicroTime]():
		return func(a, b unsafe.Pointer) bool { return (*metav1.MicroTime)(a).UTC() == (*metav1.MicroTime)(b).UTC() }
	case reflect.TypeFor[metav1.FieldsV1]():
		return func(a, b unsafe.Pointer) bool { return (*metav1.FieldsV1)(a).Equal(*(*metav1.FieldsV1)(b)) }
	}
	switch t.Kind() {
	case reflect.Bool:
		return same[bool]
	case reflect.Int32:
		return same[int32]
	case reflect.Int64:
		return same[int64]
	case reflect.Uint8:
		return same[uint8]
	case reflect.String:
		return same[string]
	case reflect.Pointer:
		elem := of(t.Elem())
		return func(a, b unsafe.Pointer) bool {
			x, y := *(*unsafe.Pointer)(a), *(*unsafe.Pointer)(b)
			return x == y || x != nil && y != nil && elem(x, y)
		}
	case reflect.Slice:
		return slices(t)
	case reflect.Map:
		if t.Key().Kind() == reflect.String {
			switch {
			case t.Elem().Kind() == reflect.String:
				return maps(func(v, w string) bool { return v == w })
			case t.Elem() == reflect.TypeFor[resource.Quantity]():
				return maps(sameQuantity)
			}
		}
	case reflect.Struct:
		if c, ok := structs(t); ok {
			return c
		}
	}
	return func(a, b unsafe.Pointer) bool {
		return equality.Semantic.DeepEqual(reflect.NewAt(t, a).Elem().Interface(), reflect.NewAt(t, b).Elem().Interface())
	}
}

func same[T comparable](a, b unsafe.Pointer) bool { return *(*T)(a) == *(*T)(b) }

func sameQuantity(a, b resource.Quantity) bool { return a == b || a.Cmp(b) == 0 }

func slices(t reflect.Type) comparer {
	elem, size := of(t.Elem()), t.Elem().Size()
	return func(a, b unsafe.Pointer) bool {
		x, y := *(*[]struct{})(a), *(*[]struct{})(b) // their lengths are right for any element
		if len(x) != len(y) {
			return false
		}
		p, q := unsafe.Pointer(unsafe.SliceData(x)), unsafe.Pointer(unsafe.SliceData(y))
		if p == q {
			return true
		}
		for i := range len(x) {
			if !elem(unsafe.Add(p, uintptr(i)*size), unsafe.Add(q, uintptr(i)*size)) {
				return false
			}
		}
		return true
	}
}

// maps compares maps whose keys are strings of any type.
func maps[V any](equal func(v, w V) bool) comparer {
	return func(a, b unsafe.Pointer) bool {
		if *(*unsafe.Pointer)(a) == *(*unsafe.Pointer)(b) {
			return true
		}
		x, y := *(*map[string]V)(a), *(*map[string]V)(b)
		if len(x) != len(y) {
			return false
		}
		for k, v := range x {
			if w, ok := y[k]; !ok || !equal(v, w) {
				return false
			}
		}
		return true
	}
}

// structs is not ok with fields that nobody else may look at.
func structs(t reflect.Type) (_ comparer, ok bool) {
	type part struct {
		offset uintptr
		equal  comparer
	}
	parts := make([]part, t.NumField())
	for i := range parts {
		f := t.Field(i)
		if !f.IsExported() {
			return nil, false
		}
		parts[i] = part{f.Offset, of(f.Type)}
	}
	return func(a, b unsafe.Pointer) bool {
		for i := range parts {
			if !parts[i].equal(unsafe.Add(a, parts[i].offset), unsafe.Add(b, parts[i].offset)) {
				return false
			}
		}
		return true
	}, true
}
