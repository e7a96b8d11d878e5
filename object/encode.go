package object

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
	"unsafe"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// AppendJSON appends what json.Marshal makes of the value that v points to.
func AppendJSON(dst []byte, v any) ([]byte, error) { return appendTyped(dst, v) }

// appendTyped appends what json.Marshal makes of the value that v points to, byte
// for byte. It is compiled once for each type and makes no values on the way,
// which is three times as fast: half of what a small answer cost was this.
// Whatever is not usual in the API's types is left to json.Marshal.
func appendTyped(dst []byte, v any) ([]byte, error) {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		b, err := json.Marshal(v)
		return append(dst, b...), err
	}
	return encoderOf(p.Type().Elem())(dst, p.UnsafePointer())
}

// encoder appends the value at p.
type encoder func(dst []byte, p unsafe.Pointer) ([]byte, error)

var encoders sync.Map // reflect.Type -> encoder

func encoderOf(t reflect.Type) encoder {
	if e, ok := encoders.Load(t); ok {
		return e.(encoder)
	}
	// A type may contain itself: until it is compiled, it is found here.
	var compiled encoder
	var ready sync.WaitGroup
	ready.Add(1)
	e, loaded := encoders.LoadOrStore(t, encoder(func(dst []byte, p unsafe.Pointer) ([]byte, error) {
		ready.Wait()
		return compiled(dst, p)
	}))
	if loaded {
		return e.(encoder)
	}
	compiled = compileEncoder(t)
	ready.Done()
	encoders.Store(t, compiled)
	return compiled
}

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// compileEncoder follows the rules of encoding/json.
func compileEncoder(t reflect.Type) encoder {
	switch t {
	case reflect.TypeFor[metav1.Time]():
		return appendTime
	case reflect.TypeFor[metav1.MicroTime]():
		return appendMicroTime
	case reflect.TypeFor[resource.Quantity]():
		return appendQuantity
	case reflect.TypeFor[intstr.IntOrString]():
		return appendIntOrString
	case reflect.TypeFor[metav1.FieldsV1]():
		return appendFields
	}
	if p := reflect.PointerTo(t); p.Implements(jsonMarshaler) || p.Implements(textMarshaler) {
		return standard(t)
	}
	switch t.Kind() {
	case reflect.Bool:
		return func(dst []byte, p unsafe.Pointer) ([]byte, error) { return strconv.AppendBool(dst, *(*bool)(p)), nil }
	case reflect.Int32:
		return func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			return strconv.AppendInt(dst, int64(*(*int32)(p)), 10), nil
		}
	case reflect.Int64:
		return func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			return strconv.AppendInt(dst, *(*int64)(p), 10), nil
		}
	case reflect.String:
		return func(dst []byte, p unsafe.Pointer) ([]byte, error) { return appendString(dst, *(*string)(p)), nil }
	case reflect.Pointer:
		return pointerEncoder(t)
	case reflect.Slice:
		return sliceEncoder(t)
	case reflect.Map:
		return mapEncoder(t)
	case reflect.Struct:
		return structEncoder(t)
	}
	return standard(t)
}

// standard leaves a type to json.Marshal.
func standard(t reflect.Type) encoder {
	return func(dst []byte, p unsafe.Pointer) ([]byte, error) {
		b, err := json.Marshal(reflect.NewAt(t, p).Interface())
		return append(dst, b...), err
	}
}

func pointerEncoder(t reflect.Type) encoder {
	elem := encoderOf(t.Elem())
	return func(dst []byte, p unsafe.Pointer) ([]byte, error) {
		at := *(*unsafe.Pointer)(p)
		if at == nil {
			return append(dst, "null"...), nil
		}
		return elem(dst, at)
	}
}

func sliceEncoder(t reflect.Type) encoder {
	if t.Elem().Kind() == reflect.Uint8 {
		if e := reflect.PointerTo(t.Elem()); e.Implements(jsonMarshaler) || e.Implements(textMarshaler) {
			return standard(t)
		}
		return func(dst []byte, p unsafe.Pointer) ([]byte, error) { return appendBytes(dst, *(*[]byte)(p)), nil }
	}
	elem, size := encoderOf(t.Elem()), t.Elem().Size()
	return func(dst []byte, p unsafe.Pointer) (_ []byte, err error) {
		s := (*[]struct{})(p) // its length is right for any element
		at := unsafe.Pointer(unsafe.SliceData(*s))
		if at == nil {
			return append(dst, "null"...), nil
		}
		dst = append(dst, '[')
		for i := range len(*s) {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = elem(dst, unsafe.Add(at, uintptr(i)*size)); err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), nil
	}
}

func mapEncoder(t reflect.Type) encoder {
	if k := t.Key(); k.Kind() != reflect.String || k.Implements(textMarshaler) {
		return standard(t)
	}
	if t.Elem().Kind() == reflect.String && !t.Elem().Implements(jsonMarshaler) && !t.Elem().Implements(textMarshaler) && t.ConvertibleTo(reflect.TypeFor[map[string]string]()) {
		return sortedMap(func(dst []byte, v string) ([]byte, error) { return appendString(dst, v), nil })
	}
	if t.Elem() == reflect.TypeFor[resource.Quantity]() {
		return sortedMap(func(dst []byte, q resource.Quantity) ([]byte, error) { return appendQuantity(dst, unsafe.Pointer(&q)) })
	}
	elem := encoderOf(t.Elem())
	return func(dst []byte, p unsafe.Pointer) (_ []byte, err error) {
		m := reflect.NewAt(t, p).Elem()
		if m.IsNil() {
			return append(dst, "null"...), nil
		}
		keys := make([]string, 0, m.Len())
		values := reflect.MakeSlice(reflect.SliceOf(t.Elem()), m.Len(), m.Len())
		at := make(map[string]int, m.Len())
		for i := m.MapRange(); i.Next(); {
			k := i.Key().String()
			at[k] = len(keys)
			values.Index(len(keys)).SetIterValue(i)
			keys = append(keys, k)
		}
		slices.Sort(keys)
		dst = append(dst, '{')
		for i, k := range keys {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendString(dst, k), ':')
			if dst, err = elem(dst, values.Index(at[k]).Addr().UnsafePointer()); err != nil {
				return dst, err
			}
		}
		return append(dst, '}'), nil
	}
}

// sortedMap appends a map whose keys are strings of any type, in their order.
func sortedMap[V any](value func(dst []byte, v V) ([]byte, error)) encoder {
	return func(dst []byte, p unsafe.Pointer) (_ []byte, err error) {
		m := *(*map[string]V)(p)
		if m == nil {
			return append(dst, "null"...), nil
		}
		var few [16]string
		keys := few[:0]
		for k := range m {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		dst = append(dst, '{')
		for i, k := range keys {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendString(dst, k), ':')
			if dst, err = value(dst, m[k]); err != nil {
				return dst, err
			}
		}
		return append(dst, '}'), nil
	}
}

// structField is one field of a struct or of one embedded in it.
type structField struct {
	key    string // with quotes and colon
	offset uintptr
	leave  func(p unsafe.Pointer) bool // nil: never left out
	append encoder
}

func structEncoder(t reflect.Type) encoder {
	fields, ok := structFields(t, 0, nil)
	if !ok {
		return standard(t)
	}
	return func(dst []byte, p unsafe.Pointer) (_ []byte, err error) {
		dst = append(dst, '{')
		first := true
		for i := range fields {
			f := &fields[i]
			at := unsafe.Add(p, f.offset)
			if f.leave != nil && f.leave(at) {
				continue
			}
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(dst, f.key...)
			if dst, err = f.append(dst, at); err != nil {
				return dst, err
			}
		}
		return append(dst, '}'), nil
	}
}

// structFields lists what is written of a struct; ok is false where the rules
// for embedded fields of the same name, pointers or options come into play.
func structFields(t reflect.Type, offset uintptr, fields []structField) (_ []structField, ok bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		if tag == "-" || (!f.IsExported() && !f.Anonymous) {
			continue
		}
		if f.Anonymous && name == "" {
			if p := reflect.PointerTo(f.Type); f.Type.Kind() != reflect.Struct || p.Implements(jsonMarshaler) || p.Implements(textMarshaler) {
				return nil, false
			}
			if fields, ok = structFields(f.Type, offset+f.Offset, fields); !ok {
				return nil, false
			}
			continue
		}
		if name == "" {
			name = f.Name
		}
		s := structField{key: string(append(appendString(nil, name), ':')), offset: offset + f.Offset, append: encoderOf(f.Type)}
		for option := range strings.SplitSeq(options, ",") {
			switch option {
			case "omitempty":
				s.leave = either(s.leave, emptyOf(f.Type))
			case "omitzero":
				s.leave = either(s.leave, zeroOf(f.Type))
			case "", "inline":
			default:
				return nil, false
			}
		}
		if slices.ContainsFunc(fields, func(have structField) bool { return have.key == s.key }) {
			return nil, false
		}
		fields = append(fields, s)
	}
	return fields, true
}

func either(a, b func(unsafe.Pointer) bool) func(unsafe.Pointer) bool {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(p unsafe.Pointer) bool { return a(p) || b(p) }
}

// emptyOf is what omitempty leaves out.
func emptyOf(t reflect.Type) func(unsafe.Pointer) bool {
	switch t.Kind() {
	case reflect.Struct:
		return nil
	case reflect.Pointer:
		return func(p unsafe.Pointer) bool { return *(*unsafe.Pointer)(p) == nil }
	case reflect.String, reflect.Slice: // both have their length in the second word
		return func(p unsafe.Pointer) bool { return *(*int)(unsafe.Add(p, unsafe.Sizeof(p))) == 0 }
	case reflect.Map:
		return func(p unsafe.Pointer) bool { return reflect.NewAt(t, p).Elem().Len() == 0 }
	}
	return func(p unsafe.Pointer) bool { return reflect.NewAt(t, p).Elem().IsZero() }
}

// zeroOf is what omitzero leaves out.
func zeroOf(t reflect.Type) func(unsafe.Pointer) bool {
	type zeroer interface{ IsZero() bool }
	if reflect.PointerTo(t).Implements(reflect.TypeFor[zeroer]()) && t.Kind() != reflect.Pointer {
		return func(p unsafe.Pointer) bool { return reflect.NewAt(t, p).Interface().(zeroer).IsZero() }
	}
	return func(p unsafe.Pointer) bool {
		v := reflect.NewAt(t, p).Elem()
		if z, ok := v.Interface().(zeroer); ok && !(v.Kind() == reflect.Pointer && v.IsNil()) {
			return z.IsZero()
		}
		return v.IsZero()
	}
}

func appendTime(dst []byte, p unsafe.Pointer) ([]byte, error) {
	t := (*metav1.Time)(p)
	if t.IsZero() {
		return append(dst, "null"...), nil
	}
	dst = append(dst, '"')
	dst = t.UTC().AppendFormat(dst, time.RFC3339)
	return append(dst, '"'), nil
}

func appendMicroTime(dst []byte, p unsafe.Pointer) ([]byte, error) {
	t := (*metav1.MicroTime)(p)
	if t.IsZero() {
		return append(dst, "null"...), nil
	}
	dst = append(dst, '"')
	dst = t.UTC().AppendFormat(dst, metav1.RFC3339Micro)
	return append(dst, '"'), nil
}

func appendQuantity(dst []byte, p unsafe.Pointer) ([]byte, error) {
	b, err := (*resource.Quantity)(p).MarshalJSON() // a string of safe characters
	return append(dst, b...), err
}

func appendIntOrString(dst []byte, p unsafe.Pointer) ([]byte, error) {
	switch v := (*intstr.IntOrString)(p); v.Type {
	case intstr.Int:
		return strconv.AppendInt(dst, int64(v.IntVal), 10), nil
	case intstr.String:
		return appendString(dst, v.StrVal), nil
	}
	return standard(reflect.TypeFor[intstr.IntOrString]())(dst, p)
}

// appendFields appends managed fields as they are where json.Marshal would.
func appendFields(dst []byte, p unsafe.Pointer) ([]byte, error) {
	raw := (*metav1.FieldsV1)(p).Raw
	if raw == nil {
		return append(dst, "null"...), nil
	}
	known := fieldsKnown(raw)
	if k := known.Load(); k != nil && k.first == unsafe.SliceData(raw) && k.length == len(raw) {
		return append(dst, raw...), nil
	}
	for _, c := range raw {
		if c <= ' ' || c >= utf8.RuneSelf || c == '<' || c == '>' || c == '&' {
			return standard(reflect.TypeFor[metav1.FieldsV1]())(dst, p)
		}
	}
	if !json.Valid(raw) {
		return standard(reflect.TypeFor[metav1.FieldsV1]())(dst, p)
	}
	known.Store(&knownFields{unsafe.SliceData(raw), len(raw)})
	return append(dst, raw...), nil
}

// knownFields are managed fields that can be appended as they are. Objects share
// them, nobody changes them, and what is known here is not used for anything else.
type knownFields struct {
	first  *byte
	length int
}

var allKnownFields [256]atomic.Pointer[knownFields]

// fieldsKnown is where one looks for raw.
func fieldsKnown(raw []byte) *atomic.Pointer[knownFields] {
	return &allKnownFields[uintptr(unsafe.Pointer(unsafe.SliceData(raw)))>>4%uintptr(len(allKnownFields))]
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return append(dst, "null"...)
	}
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, '"')
}

// plain are the characters that stand for themselves in a string.
var plain = func() (is [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		is[c] = !strings.ContainsRune(`"\<>&`, c)
	}
	return is
}()

// appendString escapes what encoding/json does, for pages of HTML too.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	done := 0 // of s, appended
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRuneInString(s[i:]); r != '\u2028' && r != '\u2029' && (r != utf8.RuneError || size > 1) {
				i += size
				continue
			}
			dst = append(dst, s[done:i]...)
			if r == utf8.RuneError {
				dst = append(dst, `\ufffd`...)
			} else {
				dst = append(dst, `\u202`...)
				dst = append(dst, hex[r&0xf])
			}
			i += size
			done = i
			continue
		}
		dst = append(dst, s[done:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
		i++
		done = i
	}
	dst = append(dst, s[done:]...)
	return append(dst, '"')
}
