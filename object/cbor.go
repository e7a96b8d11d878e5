package object

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
)

// SelfDescribed begins every CBOR document of the API: the tag 55799 of RFC 8949.
const SelfDescribed = "\xd9\xd9\xf7"

// Major types of CBOR.
const (
	cborBytes = 2 << 5
	cborText  = 3 << 5
	cborArray = 4 << 5
	cborMap   = 5 << 5
	cborTag   = 6 << 5
	cborBreak = 0xff
)

// appendCBORHead appends a major type and its argument.
func appendCBORHead(dst []byte, major byte, n int) []byte {
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n <= math.MaxUint8:
		return append(dst, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
}

// AppendCBORMap begins a map of n pairs, which must follow.
func AppendCBORMap(dst []byte, n int) []byte { return appendCBORHead(dst, cborMap, n) }

// AppendCBORArray begins an array of n values, which must follow.
func AppendCBORArray(dst []byte, n int) []byte { return appendCBORHead(dst, cborArray, n) }

// AppendCBORString appends a string as upstream does: Go's may hold any bytes, and
// CBOR's text none but UTF-8.
func AppendCBORString(dst []byte, s string) []byte {
	return append(appendCBORHead(dst, cborBytes, len(s)), s...)
}

// cborWriter writes as upstream's server does, the pairs of maps in any order.
var cborWriter = cbor.NewSerializer(nil, nil)

// appender is an io.Writer.
type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}

// AppendCBOR appends an object as a document of CBOR, which SelfDescribed begins.
func AppendCBOR(dst []byte, o runtime.Object) ([]byte, error) {
	a := appender(dst)
	if err := cborWriter.EncodeNondeterministic(o, &a); err != nil {
		return dst, fmt.Errorf("cannot encode %T: %w", o, err)
	}
	return a, nil
}

// AppendCBORPlain appends a value that is no object.
func AppendCBORPlain(dst []byte, v any) ([]byte, error) {
	b, err := direct.Marshal(v)
	return append(dst, b...), err
}

// AppendCBORValue is AppendCBOR of what is inside a document.
func AppendCBORValue(dst []byte, o runtime.Object) ([]byte, error) {
	out, err := AppendCBOR(dst, o)
	if err != nil {
		return dst, err
	}
	n := len(dst)
	return slices.Delete(out, n, n+len(SelfDescribed)), nil
}

// InVersion is an object, which is of the storage version, in this version: with
// its kind when whole. It shares all else with o.
func (v *Version) InVersion(o Object, whole bool) (runtime.Object, error) {
	converted, err := v.FromStorage(o)
	if err != nil || v.codec.custom {
		return converted, err
	}
	kind := schema.GroupVersionKind{}
	if whole {
		kind = v.GroupVersionKind
	}
	if converted.GetObjectKind().GroupVersionKind() != kind {
		if typed, ok := converted.(Object); ok {
			converted = ShallowCopy(typed)
		} else {
			converted = converted.DeepCopyObject()
		}
		converted.GetObjectKind().SetGroupVersionKind(kind)
	}
	return converted, nil
}

// anyKind lets the library read into an object whatever kind the body says it is:
// whether that is right is judged afterwards.
type anyKind struct{ into runtime.Object }

// ObjectKinds implements runtime.ObjectTyper. What it returns stands in for what a
// body does not say.
func (a anyKind) ObjectKinds(runtime.Object) ([]schema.GroupVersionKind, bool, error) {
	return []schema.GroupVersionKind{{Version: "unsaid", Kind: "Unsaid"}}, false, nil
}

// Recognizes implements runtime.ObjectTyper.
func (anyKind) Recognizes(schema.GroupVersionKind) bool { return true }

// New implements runtime.ObjectCreater.
func (a anyKind) New(schema.GroupVersionKind) (runtime.Object, error) {
	if a.into == nil {
		return nil, errNothingToReadInto
	}
	return a.into, nil
}

var errNothingToReadInto = errors.New("there is nothing to read into")

// cborKind reads the kind of a document.
func cborKind(data []byte) (schema.GroupVersionKind, error) {
	if _, err := scanCBOR(data); err != nil {
		return schema.GroupVersionKind{}, err
	}
	_, gvk, err := cbor.NewSerializer(anyKind{}, anyKind{}).Decode(data, nil, nil)
	if gvk == nil {
		return schema.GroupVersionKind{}, err
	}
	return *gvk, nil
}

func (d *Decoded) decodeCBOR(into runtime.Object, data []byte, strict bool) error {
	long, err := scanCBOR(data)
	if err != nil {
		return err
	}
	if u, custom := into.(*unstructured.Unstructured); custom {
		u.Object = nil
		if err := direct.Unmarshal(data, &u.Object); err != nil {
			return err
		}
		return d.custom(u, strict)
	}
	read := func(into runtime.Object, data []byte, strict bool) error {
		k := anyKind{into}
		_, _, err := cbor.NewSerializer(k, k, cbor.Strict(strict)).Decode(data, nil, into)
		return err
	}
	if err := boundQuantitiesAt(into, data, long, func(o runtime.Object, b []byte) error { return read(o, b, false) }); err != nil {
		return err
	}
	if err := read(into, data, strict); err != nil {
		unknown, ok := runtime.AsStrictDecodingError(err)
		if !ok {
			return err
		}
		d.Strict = append(d.Strict, unknown.Errors()...)
	}
	d.GVK = into.GetObjectKind().GroupVersionKind()
	clearKind(into)
	return nil
}

// CBORToJSON turns a document into JSON: base64 where CBOR has bytes, for which
// JSON has no form of its own.
func CBORToJSON(data []byte) ([]byte, error) {
	if _, err := scanCBOR(data); err != nil {
		return nil, err
	}
	var v any
	if err := direct.Unmarshal(data, &v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// maxCBORValues bounds the values in a document. One byte is enough for a struct
// of a kilobyte, where JSON takes three and no list is made before it is read.
const maxCBORValues = 1 << 19

var errTooManyValues = fmt.Errorf("cbor: more than %d values", maxCBORValues)

// scanCBOR looks over a document before anything is made of it. It refuses one of
// too many values, and finds texts that may be quantities of too many digits: for
// each the place of a digit. Where a document is not well formed, it stops, for
// the library to say so.
func scanCBOR(data []byte) (long []int, err error) {
	var (
		values int
		parts  []byte // of a string that comes in parts
		open   bool   // there are more
		shown  [3]bool
	)
	for at := 0; at < len(data); {
		major, info := data[at]&0xe0, data[at]&0x1f
		at++
		n := uint64(info)
		switch {
		case info >= 24 && info < 28:
			size := 1 << (info - 24)
			if len(data)-at < size {
				return long, nil
			}
			n = 0
			for _, c := range data[at : at+size] {
				n = n<<8 | uint64(c)
			}
			at += size
		case info >= 28 && info < 31:
			return long, nil
		case major|info == cborBreak:
			if open && (numberTooLong(parts) >= 0 || shownTooLong(parts, shown)) {
				return nil, resource.ErrSuffix
			}
			open = false
			continue
		}
		if values++; values > maxCBORValues {
			return nil, errTooManyValues
		}
		switch {
		case major == cborTag && n >= 21 && n <= 23:
			shown[n-21] = true
		case major != cborBytes && major != cborText:
		case info == 31:
			parts, open = parts[:0], true
		case uint64(len(data)-at) < n:
			return long, nil
		default:
			part := data[at : at+int(n)]
			if open {
				parts = append(parts, part...)
			} else {
				if i := numberTooLong(part); i >= 0 {
					long = append(long, at+i)
				}
				if major == cborBytes && shownTooLong(part, shown) {
					return nil, resource.ErrSuffix
				}
			}
			at += int(n)
		}
	}
	return long, nil
}

// numberTooLong gives the place of a digit in a text that CheckQuantity refuses, if
// it is a number at all; else -1.
func numberTooLong(text []byte) int {
	at := 0
	for at < len(text) && !isNumeral(text[at]) {
		if !unicode.IsSpace(rune(text[at])) && text[at] < utf8.RuneSelf {
			return -1
		}
		at++
	}
	from := at
	for at < len(text) && isNumeral(text[at]) {
		at++
	}
	if at-from > maxQuantityDigits {
		return from + maxQuantityDigits/2
	}
	if at == from || at == len(text) || text[at]|0x20 != 'e' {
		return -1
	}
	for at++; at < len(text) && (text[at] == '+' || text[at] == '-'); at++ {
	}
	for from = at; at < len(text) && isDigit(text[at]); at++ {
	}
	if at-from <= maxExponentDigits || at < len(text) && isWord(text[at]) {
		return -1
	}
	return from
}

// shownTooLong is numberTooLong of the texts that bytes are shown as where one of
// the tags 21 to 23 was before: base64 for URLs, base64, and digits of base 16.
// The bytes 1e 99 99 99 are the number 1e999999.
func shownTooLong(b []byte, tags [3]bool) bool {
	b = b[:min(len(b), 2*maxQuantityDigits)]
	return tags[0] && numberTooLong(base64.RawURLEncoding.AppendEncode(nil, b)) >= 0 ||
		tags[1] && numberTooLong(base64.StdEncoding.AppendEncode(nil, b)) >= 0 ||
		tags[2] && numberTooLong(hex.AppendEncode(nil, b)) >= 0
}
