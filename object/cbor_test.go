package object_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

	"sagong/kinds"
	"sagong/object"
)

var filled = randfill.NewWithSeed(7).NilChance(.2).NumElements(1, 2).MaxDepth(9).Funcs(
	func(s *string, c randfill.Continue) { *s = []string{"", "plain", "사공", "a\nb"}[c.Intn(4)] },
	func(q *resource.Quantity, c randfill.Continue) { *q = *quantity(c.Int63n(1 << 40)) },
	func(v *intstr.IntOrString, c randfill.Continue) {
		if *v = intstr.FromInt32(int32(c.Uint32())); c.Bool() {
			*v = intstr.FromString("50%")
		}
	},
	func(r *runtime.RawExtension, _ randfill.Continue) { r.Raw = []byte(`{"a":[1,"<"]}`) },
	func(j *apiextensionsv1.JSON, _ randfill.Continue) { j.Raw = []byte(`{"a":[1,2.5]}`) },
	func(f *metav1.FieldsV1, _ randfill.Continue) { f.Raw = []byte(`{"f:metadata":{"f:labels":{}}}`) },
	func(t *metav1.Time, c randfill.Continue) { *t = metav1.Unix(c.Int63n(1<<32), 0) },
	func(t *metav1.MicroTime, c randfill.Continue) {
		*t = metav1.MicroTime{Time: time.UnixMicro(c.Int63n(1 << 50))}
	},
)

// TestCBORRoundTrip: objects of every kind, filled at random, survive the way
// through CBOR as they do the one through JSON.
func TestCBORRoundTrip(t *testing.T) {
	for _, d := range kinds.All() {
		o := d.New()
		if _, custom := o.(*unstructured.Unstructured); custom {
			continue
		}
		filled.Fill(o)
		if typed, ok := o.(interface{ SetGroupVersionKind(schema.GroupVersionKind) }); ok {
			typed.SetGroupVersionKind(schema.GroupVersionKind{})
		}
		asJSON, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		b, err := object.AppendCBOR(nil, o)
		if err != nil {
			t.Fatalf("%s: %v", d.Kind, err)
		}
		if !bytes.HasPrefix(b, []byte(object.SelfDescribed)) {
			t.Fatalf("%s: %x does not describe itself", d.Kind, b[:8])
		}
		viaCBOR, viaJSON := d.New(), d.New()
		got, err := object.DecodeInto(viaCBOR, b, object.CBOR, true)
		if err != nil || len(got.Strict) > 0 {
			t.Fatalf("%s: %v %v", d.Kind, err, got.Strict)
		}
		if _, err := object.DecodeInto(viaJSON, asJSON, object.JSON, true); err != nil {
			t.Fatalf("%s: %v", d.Kind, err)
		}
		again, err := json.Marshal(viaCBOR)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(viaJSON)
		if err != nil || !bytes.Equal(again, want) {
			t.Fatalf("%s: %v\n%s\nwant\n%s", d.Kind, err, again, want)
		}
		whole, err := object.CBORToJSON(b)
		if err != nil {
			t.Fatal(err)
		}
		var a, c any
		if json.Unmarshal(whole, &a) != nil || json.Unmarshal(asJSON, &c) != nil || !reflect.DeepEqual(a, c) {
			t.Fatalf("%s:\n%s\nwant\n%s", d.Kind, whole, asJSON)
		}
	}
}

// TestCBORBombs: documents that make much of little are refused before anything
// is made of them.
func TestCBORBombs(t *testing.T) {
	pod := func(containers ...string) string {
		b := object.AppendCBORString(object.AppendCBORMap(nil, 1), "spec")
		b = object.AppendCBORString(object.AppendCBORMap(b, 1), "containers")
		return string(b) + strings.Join(containers, "")
	}
	for name, doc := range map[string]string{
		"many structs":      pod("\x9a\x00\x08\x00\x00", strings.Repeat("\xa0", 1<<19)),
		"length of nothing": pod("\x9b\x00\xff\xff\xff\xff\xff\xff\xff"),
		"length of a list":  pod("\x9a\x7f\xff\xff\xff"),
		"length of a text":  pod("\x7b\x7f\xff\xff\xff\xff\xff\xff\xff"),
		"nested lists":      pod(strings.Repeat("\x81", 1<<20), "\x00"),
		"nested tags":       pod(strings.Repeat("\xc6", 1<<18), "\x00"),
		"nested for ever":   pod(strings.Repeat("\x9f", 1<<18)),
		"text in parts":     pod("\x7f", strings.Repeat("\x61a", 1<<20)),
		"bignum":            pod("\xc2\x5a\x00\x10\x00\x00", strings.Repeat("\xff", 1<<20)),
	} {
		for _, into := range []runtime.Object{&corev1.Pod{}, &unstructured.Unstructured{}} {
			if _, err := object.DecodeInto(into, []byte(doc), object.CBOR, true); err == nil {
				t.Errorf("%s as %T was read", name, into)
			}
		}
		if _, err := object.CBORToJSON([]byte(doc)); err == nil {
			t.Errorf("%s became JSON", name)
		}
		_, _ = object.KindOf([]byte(doc), object.CBOR)
	}
}

// TestCBORQuantities: no quantity that would keep the parser busy gets to it,
// however it is written; texts that only look like one are read.
func TestCBORQuantities(t *testing.T) {
	claim := func(value string) []byte {
		b := object.AppendCBORMap(nil, 1)
		for _, key := range []string{"spec", "resources", "requests"} {
			b = object.AppendCBORMap(object.AppendCBORString(b, key), 1)
		}
		return append(object.AppendCBORString(b, "storage"), value...)
	}
	for name, value := range map[string]string{
		"exponent":          "\x6c1e1000000000",
		"exponent in bytes": "\x4c1e1000000000",
		"in parts":          "\x7f\x621e\x6a1000000000\xff",
		"bytes in parts":    "\x5f\x431e1\x49000000000\xff",
		"base 16":           "\xd7\x46\x1e\x10\x00\x00\x00\x00",
		"base 64":           "\xd6\x49\xd5\xed\x35\xd3\x4d\x34\xd3\x4d\x34", // 1e10000000..
		"tagged":            "\xd9\xd9\xf7\x6c1e1000000000",
		"spaces":            "\x6f 1e1000000000\n\t",
		"digits":            string(object.AppendCBORString(nil, strings.Repeat("9", 100_000))),
		"small":             "\x6d1e-1000000000",
	} {
		if _, err := object.DecodeInto(&corev1.PersistentVolumeClaim{}, claim(value), object.CBOR, false); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	b, err := direct.Marshal(map[string]any{"data": map[string]any{"a": "1e1000000000", "b": strings.Repeat("9", 100_000), "n12345": "n12345"}})
	if err != nil {
		t.Fatal(err)
	}
	var m corev1.ConfigMap
	if _, err := object.DecodeInto(&m, b, object.CBOR, true); err != nil || m.Data["a"] != "1e1000000000" || len(m.Data["b"]) != 100_000 {
		t.Errorf("%.100v %v", m.Data, err)
	}
}

// FuzzCBOR: no document may panic, and what is read is written as it was read.
func FuzzCBOR(f *testing.F) {
	for _, v := range []any{
		map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "a", "labels": map[string]any{"x": "y"}}, "spec": map[string]any{"containers": []any{map[string]any{"name": "c", "resources": map[string]any{"limits": map[string]any{"cpu": "1e3"}}}}}},
		&corev1.Pod{Spec: corev1.PodSpec{NodeName: "n"}}, []any{1, -1, 1.5, nil, true, []byte("x")},
	} {
		b, err := direct.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(append([]byte(object.SelfDescribed), b...))
	}
	f.Add([]byte("\xa1\x64spec\xbf\x7f\x68node\x44Name\xff\x61x\xff"))
	f.Add([]byte("\xa1\x44spec\x9f\xff\xd7\x46\x1e\x10\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = object.KindOf(data, object.CBOR)
		asJSON, err := object.CBORToJSON(data)
		if err == nil && !json.Valid(asJSON) {
			t.Fatalf("%x is not JSON: %s", data, asJSON)
		}
		var p corev1.Pod
		if _, err := object.DecodeInto(&p, data, object.CBOR, true); err == nil {
			b, err := object.AppendCBOR(nil, &p)
			if err != nil {
				t.Fatal(err)
			}
			var back corev1.Pod
			if _, err := object.DecodeInto(&back, b, object.CBOR, true); err != nil {
				t.Fatalf("%x was written as %x: %v", data, b, err)
			}
		}
		var u unstructured.Unstructured
		if _, err := object.DecodeInto(&u, data, object.CBOR, true); err == nil {
			if _, err := object.AppendCBOR(nil, &u); err != nil {
				t.Fatal(err)
			}
		}
	})
}
