package object

import (
	"encoding/binary"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestRecursive(t *testing.T) {
	for into, want := range map[runtime.Object]bool{
		&apiextensionsv1.CustomResourceDefinition{}: true, &corev1.Pod{}: false, &metav1.DeleteOptions{}: false, &corev1.ConfigMap{}: false,
	} {
		if got := recursive(reflect.TypeOf(into)); got != want {
			t.Errorf("%T: %t", into, got)
		}
	}
}

// TestProtobufDepth: messages that lie in each other without end are refused before
// anything calls itself for each; those of JSON are allowed.
func TestProtobufDepth(t *testing.T) {
	// head is a field of a message before its bytes. long spells numbers in ten bytes,
	// the last of them out of range: generated decoders bear it.
	head := func(number, length int, long bool) []byte {
		if long {
			var b []byte
			for _, n := range []uint64{uint64(number)<<3 | 2, uint64(length)} {
				for range 9 {
					b, n = append(b, byte(n)|0x80), n>>7
				}
				b = append(b, 2)
			}
			return b
		}
		return binary.AppendUvarint(binary.AppendUvarint(nil, uint64(number)<<3|2), uint64(length))
	}
	// before stands before the nested schema at each level.
	nested := func(levels int, before []byte, long bool) []byte {
		pieces, n := make([][]byte, levels), 0
		for i := range pieces {
			pieces[i] = slices.Concat(before, head(28, n, long)) // not
			n += len(pieces[i])
		}
		slices.Reverse(pieces)
		body := slices.Concat(pieces...)
		for _, number := range []int{1, 4, 7, 2} { // openAPIV3Schema, schema, versions, spec
			body = slices.Concat(head(number, len(body), false), body)
		}
		return slices.Concat(AppendEnvelope(nil, "apiextensions.k8s.io/v1", "CustomResourceDefinition", len(body)), body)
	}
	text := slices.Concat(head(3, 9, false), []byte("\x0a\xff a text"))
	group := []byte{0xfb, 0x7f, 0x00, 0x01, 0xfc, 0x7f} // field 2047: a group with a tag of no field in it
	for name, x := range map[string]struct {
		body []byte
		deep bool
	}{
		"deep":                      {nested(500_000, nil, false), true},
		"just too deep":             {nested(maxDepth, nil, false), true},
		"as deep as may be":         {nested(maxDepth-10, nil, false), false},
		"texts between":             {nested(100_000, text, false), true},
		"groups between":            {nested(100_000, group, false), true},
		"long numbers":              {nested(100_000, nil, true), true},
		"texts between, not deep":   {nested(100, text, false), false},
		"groups between, not deep":  {nested(100, group, false), false},
		"long numbers and not deep": {nested(100, nil, true), false},
	} {
		into := &apiextensionsv1.CustomResourceDefinition{}
		_, err := DecodeInto(into, x.body, Protobuf, true)
		if x.deep != (err != nil) || err != nil && !strings.HasSuffix(err.Error(), "exceeded max depth") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
