package object

import (
	"encoding/binary"
	"reflect"
	"slices"
	"sync"
	"unsafe"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// shapes remembers the field set of new objects by their shape: which fields are
// set, the keys of maps, and within lists the values that may identify an
// element. Objects of one shape have the same field set, so the thousandth pod
// of a template costs one walk. A shape that is finer than need be only misses.
type shapes struct {
	mu    sync.RWMutex
	known map[string]*metav1.FieldsV1
	plans sync.Map // reflect.Type to *shapePlan
}

const (
	knownShapes = 2048
	maxShape    = 16 << 10
)

// shapePlan is what a walk needs to know of a type.
type shapePlan struct {
	kind   planKind
	of     reflect.Type
	elem   *shapePlan
	size   uintptr // of elem
	fields []plannedField
	parts  []part // of a scalar
}

type plannedField struct {
	offset uintptr
	plan   *shapePlan
}

// part is a piece of a value that tells whether it is zero: an integer of width
// bytes.
type part struct{ offset, width uintptr }

type planKind uint8

const (
	planScalar   planKind = iota // only whether it is zero
	planStruct                   //
	planPointer                  //
	planMap                      //
	planStrings                  // a map[string]string
	planResource                 // a corev1.ResourceList
	planSlice                    // of anything but bytes
	planRaw                      // runtime.RawExtension
	planOpaque                   // cannot be described: the shape is not remembered
)

// plan describes a type. Recursive types end in planOpaque.
func (s *shapes) plan(t reflect.Type, above []reflect.Type) *shapePlan {
	if p, ok := s.plans.Load(t); ok {
		return p.(*shapePlan)
	}
	p := &shapePlan{kind: planOpaque, of: t}
	if slices.Contains(above, t) {
		return p
	}
	above = append(above, t)
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		p.kind = planScalar
	case reflect.Pointer:
		p.kind, p.elem = planPointer, s.plan(t.Elem(), above)
	case reflect.Map:
		switch {
		case t == reflect.TypeFor[map[string]string]():
			p.kind = planStrings
		case t == reflect.TypeFor[corev1.ResourceList]():
			p.kind = planResource
		case t.Key().Kind() == reflect.String:
			p.kind, p.elem = planMap, s.plan(t.Elem(), above)
		}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			p.kind = planScalar
		} else {
			p.kind, p.elem, p.size = planSlice, s.plan(t.Elem(), above), t.Elem().Size()
		}
	case reflect.Struct:
		ptr := reflect.PointerTo(t)
		_, marshals := ptr.MethodByName("MarshalJSON")
		switch {
		case t == reflect.TypeFor[runtime.RawExtension]():
			p.kind = planRaw
		case ptr.Implements(unstructuredConverter), t == reflect.TypeFor[metav1.FieldsV1](),
			t == reflect.TypeFor[intstr.IntOrString](), t == reflect.TypeFor[metav1.Duration]():
			p.kind = planScalar
		case marshals:
		default:
			p.kind = planStruct
			for i := range t.NumField() {
				f := t.Field(i)
				if f.Name == "TypeMeta" || f.Name == "ManagedFields" {
					continue
				}
				if !f.IsExported() {
					p.kind = planOpaque
					break
				}
				p.fields = append(p.fields, plannedField{f.Offset, s.plan(f.Type, above)})
			}
		}
	}
	if p.kind == planScalar || p.kind == planOpaque {
		p.parts = appendParts(nil, t, 0)
	}
	s.plans.Store(t, p)
	return p
}

// appendParts adds what tells whether a value of a type, offset into another, is
// zero.
func appendParts(parts []part, t reflect.Type, offset uintptr) []part {
	const word = unsafe.Sizeof(uintptr(0))
	switch t.Kind() {
	case reflect.String: // its length
		return append(parts, part{offset + word, word})
	case reflect.Slice, reflect.Interface: // what it refers to
		return append(parts, part{offset, word})
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			parts = appendParts(parts, f.Type, offset+f.Offset)
		}
		return parts
	case reflect.Array:
		for i := range t.Len() {
			parts = appendParts(parts, t.Elem(), offset+uintptr(i)*t.Elem().Size())
		}
		return parts
	case reflect.Complex64, reflect.Complex128:
		return append(parts, part{offset, t.Size() / 2}, part{offset + t.Size()/2, t.Size() / 2})
	}
	return append(parts, part{offset, t.Size()})
}

// zero reports whether the scalar at v is its type's zero value, as
// reflect.Value.IsZero says.
func (p *shapePlan) zero(v unsafe.Pointer) bool {
	for _, e := range p.parts {
		at := unsafe.Add(v, e.offset)
		var set bool
		switch e.width {
		case 1:
			set = *(*uint8)(at) != 0
		case 2:
			set = *(*uint16)(at) != 0
		case 4:
			set = *(*uint32)(at) != 0
		default:
			set = *(*uint64)(at) != 0
		}
		if set {
			return false
		}
	}
	return true
}

// appendShape writes the shape of the value at v; ok is false when it cannot be
// described.
func appendShape(b []byte, p *shapePlan, v unsafe.Pointer) (out []byte, ok bool) {
	if len(b) > maxShape {
		return b, false
	}
	switch p.kind {
	case planScalar:
		return append(b, present(!p.zero(v))), true
	case planRaw:
		raw := (*runtime.RawExtension)(v).Raw
		b = binary.AppendUvarint(b, uint64(len(raw)))
		return append(b, raw...), true
	case planStruct:
		for i := range p.fields {
			f := &p.fields[i]
			if f.plan.kind == planPointer && *(*unsafe.Pointer)(unsafe.Add(v, f.offset)) == nil {
				b = append(b, 0)
			} else if b, ok = appendShape(b, f.plan, unsafe.Add(v, f.offset)); !ok {
				return b, false
			}
		}
		return b, true
	case planPointer:
		e := *(*unsafe.Pointer)(v)
		if e == nil {
			return append(b, 0), true
		}
		return appendShape(append(b, 1), p.elem, e)
	case planStrings:
		return appendKeys(b, *(*map[string]string)(v)), true
	case planResource:
		return appendKeys(b, *(*corev1.ResourceList)(v)), true
	case planMap:
		m := reflect.NewAt(p.of, v).Elem()
		// Nil and empty differ where the field is not omitted.
		b = append(b, present(!m.IsNil()))
		b = binary.AppendUvarint(b, uint64(m.Len()))
		keys := make([]string, 0, m.Len())
		for _, k := range m.MapKeys() {
			keys = append(keys, k.String())
		}
		slices.Sort(keys)
		for _, k := range keys {
			b = binary.AppendUvarint(b, uint64(len(k)))
			b = append(b, k...)
			if p.elem.kind == planScalar {
				continue
			}
			e := reflect.New(p.of.Elem())
			e.Elem().Set(m.MapIndex(reflect.ValueOf(k).Convert(p.of.Key())))
			if b, ok = appendShape(b, p.elem, e.UnsafePointer()); !ok {
				return b, false
			}
		}
		return b, true
	case planSlice:
		list := *(*[]struct{})(v) // its length is right for any element
		b = append(b, present(list != nil))
		b = binary.AppendUvarint(b, uint64(len(list)))
		first := unsafe.Pointer(unsafe.SliceData(list))
		for i := range list {
			e := unsafe.Add(first, uintptr(i)*p.size)
			if b, ok = appendIdentity(b, p.elem, e); !ok {
				return b, false
			}
			if p.elem.kind != planScalar {
				if b, ok = appendShape(b, p.elem, e); !ok {
					return b, false
				}
			}
		}
		return b, true
	}
	return append(b, 0), p.zero(v)
}

// appendKeys writes the shape of a map of scalars.
func appendKeys[K ~string, V any](b []byte, m map[K]V) []byte {
	b = append(b, present(m != nil))
	b = binary.AppendUvarint(b, uint64(len(m)))
	var few [16]K
	keys := few[:0]
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		b = binary.AppendUvarint(b, uint64(len(k)))
		b = append(b, k...)
	}
	return b
}

// appendIdentity writes what may be a list element's key: itself, or its
// fields that are strings, numbers and booleans.
func appendIdentity(b []byte, p *shapePlan, v unsafe.Pointer) ([]byte, bool) {
	switch p.of.Kind() {
	case reflect.String:
		s := *(*string)(v)
		b = binary.AppendUvarint(b, uint64(len(s)))
		return append(b, s...), true
	case reflect.Bool:
		return append(b, present(*(*bool)(v))), true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return append(b, unsafe.Slice((*byte)(v), p.of.Size())...), true
	case reflect.Pointer:
		e := *(*unsafe.Pointer)(v)
		if e == nil {
			return append(b, 0), true
		}
		return appendIdentity(append(b, 1), p.elem, e)
	case reflect.Struct:
		if p.kind != planStruct {
			return b, p.kind != planOpaque
		}
		for i := range p.fields {
			f := &p.fields[i]
			switch f.plan.kind {
			case planScalar, planPointer:
				kind := f.plan.of.Kind()
				if kind == reflect.Struct || kind == reflect.Slice || kind == reflect.Pointer && f.plan.elem.kind != planScalar {
					continue
				}
				var ok bool
				if b, ok = appendIdentity(b, f.plan, unsafe.Add(v, f.offset)); !ok {
					return b, false
				}
			}
		}
		return b, true
	}
	return b, false
}

func present(yes bool) byte {
	if yes {
		return 1
	}
	return 0
}

// key is the shape of a new object of a kind, appended to b; nil when it cannot
// be described.
func (s *shapes) key(b []byte, c *Codec, o Object) []byte {
	b = append(b, c.def.Resource...)
	b = append(b, '.')
	b = append(b, c.def.Group...)
	b = append(b, 0)
	v := reflect.ValueOf(o)
	b, ok := appendShape(b, s.plan(v.Type().Elem(), nil), v.UnsafePointer())
	if !ok {
		return nil
	}
	return b
}

func (s *shapes) get(key []byte) *metav1.FieldsV1 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.known[string(key)]
}

func (s *shapes) put(key []byte, f *metav1.FieldsV1) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= knownShapes {
		// Begin anew: what is in use comes back at once.
		s.known = make(map[string]*metav1.FieldsV1, 64)
	}
	s.known[string(key)] = f
}
