package object

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// envelope begins every protobuf body of the API: "k8s" and a zero byte, then a
// runtime.Unknown that names the type (1) and holds the message (2).
const envelope = "k8s\x00"

func uvarintLen(n uint64) int { return (bits.Len64(n|1) + 6) / 7 }

// FieldLen is the length of a length-delimited field that holds n bytes.
func FieldLen(n int) int { return 1 + uvarintLen(uint64(n)) + n }

// AppendBytesField appends a length-delimited field whose number is below 16.
func AppendBytesField[T ~string | ~[]byte](dst []byte, number int, value T) []byte {
	dst = append(dst, byte(number<<3|2))
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(dst, value...)
}

// AppendFieldHeader appends the tag and length of a field, whose bytes follow.
func AppendFieldHeader(dst []byte, number, length int) []byte {
	dst = append(dst, byte(number<<3|2))
	return binary.AppendUvarint(dst, uint64(length))
}

// RevisionFieldLen is the length of what AppendRevision appends.
func RevisionFieldLen(r Revision) int { return 4 + digits(r) }

// AppendRevision appends metadata.resourceVersion to a stored message. A second
// metadata field is merged with the first by every protobuf decoder, so the
// stored bytes need not be touched.
func AppendRevision(dst []byte, r Revision) []byte {
	n := digits(r)
	dst = append(dst, 1<<3|2, byte(2+n), 6<<3|2, byte(n))
	return strconv.AppendInt(dst, int64(r), 10)
}

func digits(r Revision) int {
	n := 1
	for v := int64(r); v >= 10; v /= 10 {
		n++
	}
	if r < 0 {
		n++
	}
	return n
}

// EnvelopeLen is the length of an envelope around a message of n bytes.
func EnvelopeLen(apiVersion, kind string, n int) int {
	return len(envelope) + FieldLen(FieldLen(len(apiVersion))+FieldLen(len(kind))) + FieldLen(n)
}

// AppendEnvelope appends the envelope of a message of n bytes; the message
// itself must follow.
func AppendEnvelope(dst []byte, apiVersion, kind string, n int) []byte {
	dst = append(dst, envelope...)
	dst = AppendFieldHeader(dst, 1, FieldLen(len(apiVersion))+FieldLen(len(kind)))
	dst = AppendBytesField(dst, 1, apiVersion)
	dst = AppendBytesField(dst, 2, kind)
	return AppendFieldHeader(dst, 2, n)
}

// OpenEnvelope takes a protobuf body apart.
func OpenEnvelope(body []byte) (schema.GroupVersionKind, []byte, error) {
	var gvk schema.GroupVersionKind
	rest, ok := bytes.CutPrefix(body, []byte(envelope))
	if !ok {
		return gvk, nil, errors.New("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
	}
	var raw []byte
	err := EachField(rest, func(number int, value []byte) error {
		switch number {
		case 1:
			var apiVersion, kind string
			if err := EachField(value, func(n int, v []byte) error {
				switch n {
				case 1:
					apiVersion = string(v)
				case 2:
					kind = string(v)
				}
				return nil
			}); err != nil {
				return err
			}
			gv, err := schema.ParseGroupVersion(apiVersion)
			if err != nil {
				return err
			}
			gvk = gv.WithKind(kind)
		case 2:
			raw = value
		}
		return nil
	})
	if err != nil {
		return gvk, nil, fmt.Errorf("cannot read protobuf envelope: %w", err)
	}
	return gvk, raw, nil
}

var errTruncated = errors.New("message is cut short")

// nextField reads one field: its number, its bytes (of a length-delimited one;
// else nil), the field whole, and what follows.
func nextField(b []byte) (number int, value, whole, rest []byte, err error) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
		return 0, nil, nil, nil, errTruncated
	}
	number = int(tag >> 3)
	end := n
	switch tag & 7 {
	case 0:
		_, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return 0, nil, nil, nil, errTruncated
		}
		end += m
	case 1:
		end += 8
	case 5:
		end += 4
	case 2:
		l, m := binary.Uvarint(b[n:])
		if m <= 0 || l > uint64(len(b)-n-m) {
			return 0, nil, nil, nil, errTruncated
		}
		end += m + int(l)
		value = b[n+m : end : end]
	default:
		return 0, nil, nil, nil, fmt.Errorf("wire type %d is unknown", tag&7)
	}
	if end > len(b) {
		return 0, nil, nil, nil, errTruncated
	}
	return number, value, b[:end], b[end:], nil
}

// EachField calls f for every field of a message; value is nil for those that
// are not length-delimited.
func EachField(b []byte, f func(number int, value []byte) error) error {
	for len(b) > 0 {
		number, value, _, rest, err := nextField(b)
		if err != nil {
			return err
		}
		if err := f(number, value); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// ProtobufField returns the bytes of a message's first field of that number.
func ProtobufField(b []byte, number int) ([]byte, bool) {
	for len(b) > 0 {
		n, value, _, rest, err := nextField(b)
		if err != nil {
			return nil, false
		}
		if n == number && value != nil {
			return value, true
		}
		b = rest
	}
	return nil, false
}

// The numbers of an object's metadata and of the managed fields in it.
const metadata, managedFields = 1, 17

// WithoutManagedFields is an object's stored form without its managed fields, in
// buf's memory, and whether it had some. To decode them costs a tenth of a pod.
func WithoutManagedFields(b []byte, buf *[]byte) ([]byte, bool) {
	out, found := (*buf)[:0], false
	for rest := b; len(rest) > 0; {
		n, meta, whole, next, err := nextField(rest)
		if err != nil {
			return b, false
		}
		rest = next
		if n != metadata || meta == nil {
			out = append(out, whole...)
			continue
		}
		size := 0 // of what stays
		for m := meta; len(m) > 0; {
			n, _, field, next, err := nextField(m)
			if err != nil {
				return b, false
			}
			m = next
			if n == managedFields {
				found = true
			} else {
				size += len(field)
			}
		}
		out = append(out, metadata<<3|2) // its bytes follow their length
		out = binary.AppendUvarint(out, uint64(size))
		for m := meta; len(m) > 0; {
			n, _, field, next, _ := nextField(m)
			m = next
			if n != managedFields {
				out = append(out, field...)
			}
		}
	}
	*buf = out
	return out, found
}

// StoredManagedFields are those of an object in its stored form.
func StoredManagedFields(b []byte) ([]metav1.ManagedFieldsEntry, error) {
	meta, _ := ProtobufField(b, metadata)
	var entries []metav1.ManagedFieldsEntry
	err := EachField(meta, func(number int, value []byte) error {
		if number != managedFields {
			return nil
		}
		entries = append(entries, metav1.ManagedFieldsEntry{})
		return entries[len(entries)-1].Unmarshal(value)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read managed fields: %w", err)
	}
	return entries, nil
}

// protobufEqualBut compares two messages field by field, leaving out two
// numbers. The encoder is deterministic, so equal values have equal bytes.
func protobufEqualBut(a, b []byte, skip1, skip2 int) bool {
	next := func(m *[]byte) []byte {
		for len(*m) > 0 {
			n, _, whole, rest, err := nextField(*m)
			if err != nil {
				whole := *m
				*m = nil
				return whole
			}
			*m = rest
			if n != skip1 && n != skip2 {
				return whole
			}
		}
		return nil
	}
	for {
		fa, fb := next(&a), next(&b)
		if !bytes.Equal(fa, fb) {
			return false
		}
		if fa == nil {
			return true
		}
	}
}

// protobufNumber reads the number from a struct tag such as
// "bytes,3,opt,name=status".
func protobufNumber(tag string) int {
	parts := strings.SplitN(tag, ",", 3)
	if len(parts) < 2 {
		return 0
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil {
		return 0
	}
	return n
}
