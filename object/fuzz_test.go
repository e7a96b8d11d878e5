package object_test

import (
	"bytes"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"sagong/kinds"
	"sagong/object"
)

// FuzzDecode: no body may panic the decoders, and what decodes must survive a
// round through the stored form.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","labels":{"x":"y"}},"spec":{"containers":[{"name":"c"}]}}`), 0)
	f.Add([]byte("kind: Pod\nmetadata:\n  name: a\n"), 1)
	f.Add([]byte("k8s\x00\n\x09\n\x02v1\x12\x03Pod\x12\x05\n\x03\n\x01a"), 2)
	f.Fuzz(func(t *testing.T, data []byte, format int) {
		p := &corev1.Pod{}
		d, err := object.DecodeInto(p, data, object.Format(format&3), true)
		object.KindOf(data, object.Format(format&3))
		if err != nil || d.Object == nil {
			return
		}
		var def *object.Definition
		for _, k := range kinds.All() {
			if k.Kind == "Pod" {
				def = k
			}
		}
		c := object.NewCodec(def)
		p.ResourceVersion = ""
		stored, err := c.Encode(p)
		if err != nil {
			return
		}
		back, err := c.Decode(stored, 7)
		if err != nil {
			t.Fatal(err)
		}
		if back.GetResourceVersion() != "7" || back.GetName() != p.GetName() {
			t.Fatalf("%v came back as %v", p, back)
		}
		wire := object.AppendRevision(bytes.Clone(stored), 9)
		whole, err := object.Unmarshal(def, wire)
		if err != nil || whole.GetResourceVersion() != "9" || whole.GetName() != p.GetName() {
			t.Fatalf("revision appended: %v, %v", whole, err)
		}
		// What was read back is stored the same ever after.
		back.SetResourceVersion("")
		once, err := c.Encode(back)
		if err != nil {
			t.Fatal(err)
		}
		if back, err = c.Decode(once, 8); err != nil {
			t.Fatal(err)
		}
		back.SetResourceVersion("")
		if twice, err := c.Encode(back); err != nil || !bytes.Equal(once, twice) {
			t.Fatal("the stored form is not stable")
		}
	})
}
