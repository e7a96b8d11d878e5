package object

import (
	"reflect"
	"sync"
)

// maxDepth is how deep messages may lie in each other: as deep as encoding/json lets
// values. What reads them calls itself for each, and a goroutine whose stack has no
// more room takes the whole process with it.
const maxDepth = 10_000

var recursiveTypes sync.Map // of reflect.Type: bool

// recursive reports whether values of a type may hold others of the same.
func recursive(t reflect.Type) bool {
	if known, ok := recursiveTypes.Load(t); ok {
		return known.(bool)
	}
	r := holdsItself(t, map[reflect.Type]bool{})
	recursiveTypes.Store(t, r)
	return r
}

func holdsItself(t reflect.Type, within map[reflect.Type]bool) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return holdsItself(t.Elem(), within)
	case reflect.Struct:
	default:
		return false
	}
	if within[t] {
		return true
	}
	within[t] = true
	defer delete(within, t)
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() && holdsItself(f.Type, within) {
			return true
		}
	}
	return false
}

// tooDeep reports whether messages lie deeper in each other than maxDepth, where
// every field of bytes that can be read as a message is one. It reads b once, and
// whatever a decoder reads as a tag it does too.
func tooDeep(b []byte) bool {
	ends := []int{len(b)} // of the messages around
	for at := 0; len(ends) > 0; {
		end := ends[len(ends)-1]
		if at == end {
			ends = ends[:len(ends)-1]
			continue
		}
		tag, n := laxUvarint(b[at:end])
		ok, next := n > 0, at+n
		if ok {
			switch tag & 7 {
			case 0:
				_, n = laxUvarint(b[next:end])
				ok, next = n > 0, next+n
			case 1:
				next += 8
			case 2:
				var length uint64
				length, n = laxUvarint(b[next:end])
				next += n
				if ok = n > 0 && length <= uint64(end-next); ok {
					if ends = append(ends, next+int(length)); len(ends) > maxDepth {
						return true
					}
				}
			case 3, 4: // groups have no length
			case 5:
				next += 4
			default:
				ok = false
			}
		}
		if !ok || next > end { // a text, or what no decoder goes on with
			next, ends = end, ends[:len(ends)-1]
		}
		at = next
	}
	return false
}

// laxUvarint is a number as generated decoders read it: of ten bytes at most, the
// last of which may say more than there is room for.
func laxUvarint(b []byte) (value uint64, n int) {
	for i, c := range b {
		if i == 10 {
			break
		}
		value |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return value, i + 1
		}
	}
	return 0, 0
}
