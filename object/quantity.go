package object

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
)

// Most digits of a quantity's number and of its exponent. The library's parser
// takes all there are: 3 MB of them keep it busy for 20 seconds, and 1e-1000000000
// for ever, as 1e1000000000 does whoever compares it.
const (
	maxQuantityDigits = 1000
	maxExponentDigits = 4
)

// boundQuantities refuses a body with a quantity of too many digits, before
// anything reads it. decode reads a body into an empty object.
//
// Only reading tells a quantity from a text that looks like one. So where there
// are such numbers, the body is read with a letter in each: a text does not mind.
// A body that cannot be read with harmless numbers either has another fault, which
// is the error.
func boundQuantities(into runtime.Object, data []byte, f Format, decode func(runtime.Object, []byte) error) error {
	data, long := longNumbers(data, f)
	return boundQuantitiesAt(into, data, long, decode)
}

// boundQuantitiesAt is boundQuantities where the places of such numbers are known.
func boundQuantitiesAt(into runtime.Object, data []byte, long []int, decode func(runtime.Object, []byte) error) error {
	t := reflect.TypeOf(into).Elem()
	if len(long) == 0 || !hasQuantity(t, nil) {
		return nil
	}
	read := func(data []byte) error { return decode(reflect.New(t).Interface().(runtime.Object), data) }
	lettered := bytes.Clone(data)
	for _, at := range long {
		lettered[at] = 'x'
	}
	err := read(lettered)
	if err == nil || errors.Is(err, resource.ErrFormatWrong) || errors.Is(err, resource.ErrNumeric) {
		return err
	}
	if err := read(withoutLong(data, long)); err != nil {
		return err
	}
	return resource.ErrSuffix
}

// withoutLong is a body with harmless numbers of the same length at the places
// that longNumbers found: exponents of naught, and such for many digits.
func withoutLong(data []byte, long []int) []byte {
	data = bytes.Clone(data)
	for _, at := range long {
		from, to := at, at
		for from > 0 && isDigit(data[from-1]) {
			from--
		}
		for to < len(data) && isDigit(data[to]) {
			to++
		}
		number := data[from:to]
		for i := range number {
			number[i] = '0'
		}
		if len(number) > maxQuantityDigits {
			number[0], number[1] = '1', 'e'
		}
	}
	return data
}

// longNumbers finds what may be a quantity's number or exponent with too many
// digits, and gives for each a place in it. It may find more than there is: parts
// of checksums, mostly. The body comes back with the escapes of numbers undone.
func longNumbers(data []byte, f Format) (body []byte, places []int) {
	if f != Protobuf && bytes.Contains(data, []byte(`\u00`)) {
		data = unescapeNumbers(data)
	}
	for i := 0; i < len(data); i++ {
		if !isDigit(data[i]) {
			continue
		}
		from := i
		for i < len(data) && isDigit(data[i]) {
			i++
		}
		switch n := i - from; {
		case n <= maxExponentDigits:
		case n > maxQuantityDigits:
			places = append(places, from+n/2)
		case endsNumber(data, from, i, f):
			places = append(places, from+maxExponentDigits)
		}
	}
	return data, places
}

// endsNumber reports whether the digits are an exponent and, with what is before
// them, may be a text of their own.
func endsNumber(data []byte, from, to int, f Format) bool {
	at := from - 1
	if at >= 0 && (data[at] == '+' || data[at] == '-') {
		at--
	}
	if at < 1 || data[at]|0x20 != 'e' {
		return false
	}
	start := at
	for start > 0 && at-start <= 2*maxQuantityDigits+2 && isNumeral(data[start-1]) {
		start--
	}
	if start == at {
		return false
	}
	switch f {
	case JSON, YAML:
		if to < len(data) && isWord(data[to]) {
			return false
		}
		// Spaces around it are taken off, however they are escaped.
		return start == 0 || !isWord(data[start-1]) || bytes.IndexByte(data[max(0, start-6):start], '\\') >= 0
	case Protobuf:
		// A text has its length before it.
		for ; start < at; start++ {
			if l := lengthBefore(data, start); start+l > from+maxExponentDigits && start+l <= to {
				return true
			}
		}
		return false
	}
	return true
}

// lengthBefore reads the varint of at most two bytes that ends before data[at].
func lengthBefore(data []byte, at int) int {
	switch {
	case at < 1 || data[at-1] >= 0x80:
		return 0
	case at > 1 && data[at-2] >= 0x80:
		return int(data[at-2]&0x7f) | int(data[at-1])<<7
	}
	return int(data[at-1])
}

func isDigit(c byte) bool   { return c-'0' <= 9 }
func isNumeral(c byte) bool { return isDigit(c) || c == '.' || c == '+' || c == '-' }
func isWord(c byte) bool    { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' }

// unescapeNumbers writes the characters of numbers that JSON has as \u00XX as
// themselves.
func unescapeNumbers(data []byte) []byte {
	out := make([]byte, 0, len(data))
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' || i+1 == len(data) {
			out = append(out, data[i])
			continue
		}
		if i+5 < len(data) && string(data[i+1:i+4]) == "u00" {
			if c := hexDigit(data[i+4])<<4 | hexDigit(data[i+5]); isNumeral(c) || c|0x20 == 'e' {
				out = append(out, c)
				i += 5
				continue
			}
		}
		out = append(out, data[i], data[i+1])
		i++
	}
	return out
}

// hexDigit is the value of a hexadecimal digit, 15 of anything else.
func hexDigit(c byte) byte {
	switch {
	case isDigit(c):
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 15
}

var quantityType = reflect.TypeFor[resource.Quantity]()

// hasQuantity reports whether values of a type may hold quantities.
func hasQuantity(t reflect.Type, seen []reflect.Type) bool {
	if t == quantityType {
		return true
	}
	if slices.Contains(seen, t) {
		return false
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return hasQuantity(t.Elem(), append(seen, t))
	case reflect.Struct:
		for i := range t.NumField() {
			if hasQuantity(t.Field(i).Type, append(seen, t)) {
				return true
			}
		}
	}
	return false
}

// CheckQuantity refuses a text that resource.ParseQuantity must not be given,
// since it would be busy for very long.
func CheckQuantity(text string) error {
	if len(text) > maxQuantityDigits {
		return resource.ErrNumeric
	}
	if i := strings.LastIndexAny(text, "eE"); i >= 0 && len(strings.TrimLeft(text[i+1:], "+-")) > maxExponentDigits {
		return resource.ErrSuffix
	}
	return nil
}

// HasLongNumber reports whether a text holds, between other things, what
// CheckQuantity refuses.
func HasLongNumber(text string) bool {
	_, places := longNumbers([]byte(text), JSON)
	return len(places) > 0
}
