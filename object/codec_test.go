package object_test

import (
	"fmt"
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/kinds"
	"sagong/object"
)

// TestRevisionAppended proves for every kind what lists and watches rest on:
// metadata is the message's field 1, so a revision can be appended to stored
// bytes, metadata can be read alone, and the spec compared without decoding.
func TestRevisionAppended(t *testing.T) {
	for _, d := range kinds.All() {
		if d.Virtual || d.Kind == "CustomResourceDefinition" || d.Kind == "APIService" {
			continue
		}
		c := object.NewCodec(d)
		for seed := range int64(5) {
			o := d.New()
			filler(seed).Fill(o)
			o.SetResourceVersion("")
			stored, err := c.Encode(o)
			if err != nil {
				t.Fatal(err)
			}
			got, err := object.Unmarshal(d, object.AppendRevision(stored[:len(stored):len(stored)], 1234567))
			if err != nil {
				t.Fatalf("%s: %v", d.Kind, err)
			}
			if got.GetResourceVersion() != "1234567" {
				t.Fatalf("%s: revision %q", d.Kind, got.GetResourceVersion())
			}
			whole, err := c.Decode(stored, 1234567)
			if err != nil {
				t.Fatal(err)
			}
			if !equality.Semantic.DeepEqual(got, whole) {
				t.Fatalf("%s: an appended revision changed the object", d.Kind)
			}
			m, err := c.Meta(stored, 1234567)
			if err != nil || m.GetName() != whole.GetName() || !reflect.DeepEqual(m.GetLabels(), whole.GetLabels()) || m.ResourceVersion != "1234567" {
				t.Fatalf("%s: metadata alone is %+v, %v", d.Kind, m, err)
			}
			renamed := whole.DeepCopyObject().(object.Object)
			renamed.SetName("another")
			renamed.SetResourceVersion("")
			object.ClearStatus(renamed)
			other, err := c.Encode(renamed)
			if err != nil {
				t.Fatal(err)
			}
			// A nil byte string in a map is read back as an empty one.
			whole.SetResourceVersion("")
			if stored, err = c.Encode(whole); err != nil || !c.SpecEqual(stored, other) {
				t.Fatalf("%s: metadata and status count as spec (%v)", d.Kind, err)
			}
		}
	}
}

func TestSelectors(t *testing.T) {
	pods := func() *object.Definition {
		for _, d := range kinds.All() {
			if d.Kind == "Pod" {
				return d
			}
		}
		return nil
	}()
	p := pods.New()
	p.SetName("a")
	p.SetNamespace("ns")
	p.SetLabels(map[string]string{"app": "web", "tier": "front"})
	for _, test := range []struct {
		label, field string
		want         bool
		err          string
	}{
		{"", "", true, ""},
		{"app=web", "", true, ""},
		{"app==web,tier in (front,back)", "", true, ""},
		{"app!=web", "", false, ""},
		{"!missing", "", true, ""},
		{"app notin (web)", "", false, ""},
		{"", "metadata.name=a", true, ""},
		{"", "metadata.name=a,metadata.namespace!=ns", false, ""},
		{"", "spec.nodeName=", true, ""},
		{"", "spec.nodeName!=", false, ""},
		{"app=web", "spec.nodeName=n1", false, ""},
		{"", "spec.unknown=x", false, "field label not supported: spec.unknown"},
		{"a b", "", false, "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"},
	} {
		s, err := object.ParseSelector(pods, test.label, test.field)
		if test.err != "" {
			if err == nil || err.Error() != test.err {
				t.Errorf("%q %q: %v, want %s", test.label, test.field, err, test.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q %q: %v", test.label, test.field, err)
			continue
		}
		if got := s.Matches(p); got != test.want {
			t.Errorf("%q %q: %v", test.label, test.field, got)
		}
		if s.MetadataOnly() && s.MatchesMeta(p) != test.want {
			t.Errorf("%q %q by metadata: %v", test.label, test.field, !test.want)
		}
	}
}

// Stored bytes without their managed fields decode to the object without them, of
// every kind, and nothing of it lies in the memory of the bytes.
func TestWithoutManagedFields(t *testing.T) {
	var buf []byte
	for _, d := range kinds.All() {
		if d.Virtual || d.Kind == "CustomResourceDefinition" || d.Kind == "APIService" {
			continue
		}
		c := object.NewCodec(d)
		for seed := range int64(5) {
			o := d.New()
			filler(seed).Fill(o)
			o.SetManagedFields(nil)
			for i := range seed {
				o.SetManagedFields(append(o.GetManagedFields(), metav1.ManagedFieldsEntry{
					Manager: fmt.Sprint("m", i), Operation: metav1.ManagedFieldsOperationApply, FieldsType: "FieldsV1",
				}))
			}
			stored, err := c.Encode(o)
			if err != nil {
				t.Fatal(err)
			}
			want, err := c.Decode(stored, 7)
			if err != nil {
				t.Fatal(err)
			}
			had := seed > 0
			want.SetManagedFields(nil)
			value, found := object.WithoutManagedFields(append([]byte(nil), stored...), &buf)
			if found != had {
				t.Fatalf("%s: managed fields found: %v, had some: %v", d.Kind, found, had)
			}
			got, err := c.Decode(value, 7)
			if err != nil {
				t.Fatal(err)
			}
			clear(value)
			clear(buf)
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%s:\n%v, want\n%v", d.Kind, got, want)
			}
		}
	}
}

func FuzzWithoutManagedFields(f *testing.F) {
	f.Add([]byte("\n\x05\n\x01a\x8a\x01\x00"))
	f.Add([]byte("\n\x03\x8a\x01\x00\n\x00\x12\x01x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var buf, again []byte
		out, _ := object.WithoutManagedFields(data, &buf)
		if _, found := object.WithoutManagedFields(out, &again); found {
			t.Fatalf("%x became %x, which has managed fields", data, out)
		}
	})
}
