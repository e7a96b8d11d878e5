package object

import (
	"encoding/binary"
	"reflect"
	"slices"
	"sync"

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
	elem   *shapePlan
	fields []plannedField
}

type plannedField struct {
	index int
	plan  *shapePlan
}

type planKind uint8

const (
	planScalar  planKind = iota // only whether it is zero
	planStruct                  //
	planPointer                 //
	planMap                     //
	planSlice                   // of anything but bytes
	planRaw                     // runtime.RawExtension
	planOpaque                  // cannot be described: the shape is not remembered
)

// plan describes a type. Recursive types end in planOpaque.
func (s *shapes) plan(t reflect.Type, above []reflect.Type) *shapePlan {
	if p, ok := s.plans.Load(t); ok {
		return p.(*shapePlan)
	}
	p := &shapePlan{kind: planOpaque}
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
		if t.Key().Kind() == reflect.String {
			p.kind, p.elem = planMap, s.plan(t.Elem(), above)
		}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			p.kind = planScalar
		} else {
			p.kind, p.elem = planSlice, s.plan(t.Elem(), above)
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
				p.fields = append(p.fields, plannedField{i, s.plan(f.Type, above)})
			}
		}
	}
	s.plans.Store(t, p)
	return p
}

// appendShape writes the shape of v; ok is false when it cannot be described.
func appendShape(b []byte, p *shapePlan, v reflect.Value) (out []byte, ok bool) {
	if len(b) > maxShape {
		return b, false
	}
	switch p.kind {
	case planScalar:
		return append(b, present(!v.IsZero())), true
	case planRaw:
		raw := v.Interface().(runtime.RawExtension).Raw
		b = binary.AppendUvarint(b, uint64(len(raw)))
		return append(b, raw...), true
	case planStruct:
		for _, f := range p.fields {
			if b, ok = appendShape(b, f.plan, v.Field(f.index)); !ok {
				return b, false
			}
		}
		return b, true
	case planPointer:
		if v.IsNil() {
			return append(b, 0), true
		}
		return appendShape(append(b, 1), p.elem, v.Elem())
	case planMap:
		// Nil and empty differ where the field is not omitted.
		b = append(b, present(!v.IsNil()))
		b = binary.AppendUvarint(b, uint64(v.Len()))
		keys := make([]string, 0, v.Len())
		for _, k := range v.MapKeys() {
			keys = append(keys, k.String())
		}
		slices.Sort(keys)
		for _, k := range keys {
			b = binary.AppendUvarint(b, uint64(len(k)))
			b = append(b, k...)
			if p.elem.kind == planScalar {
				continue
			}
			if b, ok = appendShape(b, p.elem, v.MapIndex(reflect.ValueOf(k).Convert(v.Type().Key()))); !ok {
				return b, false
			}
		}
		return b, true
	case planSlice:
		b = append(b, present(!v.IsNil()))
		b = binary.AppendUvarint(b, uint64(v.Len()))
		for i := range v.Len() {
			e := v.Index(i)
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
	return append(b, 0), v.IsZero()
}

// appendIdentity writes what may be a list element's key: itself, or its
// fields that are strings, numbers and booleans.
func appendIdentity(b []byte, p *shapePlan, v reflect.Value) ([]byte, bool) {
	switch v.Kind() {
	case reflect.String:
		b = binary.AppendUvarint(b, uint64(v.Len()))
		return append(b, v.String()...), true
	case reflect.Bool:
		return append(b, present(v.Bool())), true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return binary.AppendVarint(b, v.Int()), true
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return binary.AppendUvarint(b, v.Uint()), true
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, 0), true
		}
		return appendIdentity(append(b, 1), p.elem, v.Elem())
	case reflect.Struct:
		if p.kind != planStruct {
			return b, p.kind != planOpaque
		}
		for _, f := range p.fields {
			e := v.Field(f.index)
			switch f.plan.kind {
			case planScalar, planPointer:
				if e.Kind() == reflect.Struct || e.Kind() == reflect.Slice || e.Kind() == reflect.Pointer && f.plan.elem.kind != planScalar {
					continue
				}
				var ok bool
				if b, ok = appendIdentity(b, f.plan, e); !ok {
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
	v := reflect.ValueOf(o).Elem()
	b, ok := appendShape(b, s.plan(v.Type(), nil), v)
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
