package crd

import (
	"context"
	"encoding/json"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	kjson "sigs.k8s.io/json"

	"sagong/kinds/apiextensions"
)

const fuzzed = `{"metadata":{"name":"foos.a.example.org"},"spec":{"group":"a.example.org","scope":"Namespaced","names":{"plural":"foos","kind":"Foo"},
"versions":[{"name":"v1","served":true,"storage":true,"additionalPrinterColumns":[{"name":"X","type":"string","jsonPath":".spec.x"}],
"selectableFields":[{"jsonPath":".spec.s"}],"subresources":{"status":{},"scale":{"specReplicasPath":".spec.x","statusReplicasPath":".status.x"}},
"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","properties":{"s":{"type":"string","default":"d"},"x":{"type":"integer","minimum":1},
"l":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object","required":["k"],"properties":{"k":{"type":"string"}}}},
"e":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true},"p":{"x-kubernetes-int-or-string":true},
"m":{"type":"object","additionalProperties":{"type":"string"}}}},"status":{"type":"object","properties":{"x":{"type":"integer"}}}}}}},
{"name":"v2","served":true,"storage":false,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`

// FuzzObject takes any object a client may send through every rule of a kind, in
// both of its versions, into the store and back.
func FuzzObject(f *testing.F) {
	d := apiextensions.CustomResourceDefinition()
	crd := d.New().(*apiextensionsv1.CustomResourceDefinition)
	if err := json.Unmarshal([]byte(fuzzed), crd); err != nil {
		f.Fatal(err)
	}
	d.Default(crd)
	if errs := d.Validate(crd); len(errs) > 0 {
		f.Fatal(errs)
	}
	k := newKind(crd, crd.Spec.Names, webhooks{})
	for _, s := range []string{
		`{"spec":{"x":1,"l":[{"k":"a"}],"e":{"apiVersion":"v1","kind":"X","metadata":{"labels":{"a":"b"}}},"p":"a"}}`,
		`{"spec":null,"status":3,"metadata":{}}`, `{"spec":{"l":{"k":1},"e":[],"m":{"a":null},"x":1e99},"metadata":7}`, `{"metadata":{"generation":"a","labels":3}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, r := range k.versions {
			read := func() *unstructured.Unstructured {
				u := &unstructured.Unstructured{}
				if kjson.UnmarshalCaseSensitivePreserveInts(data, &u.Object) != nil || u.Object == nil {
					return nil
				}
				u.SetGroupVersionKind(r.gvk)
				return u
			}
			u := read()
			if u == nil {
				return
			}
			if _, meta := u.Object["metadata"].(map[string]any); u.Object["metadata"] != nil && !meta {
				return // refused when the body is read
			}
			if _, err := r.def.Prune(u); err != nil {
				continue
			}
			r.def.Default(u)
			old := u.DeepCopy()
			r.def.PrepareCreate(context.Background(), u)
			_ = r.def.Validate(u)
			r.def.PrepareUpdate(context.Background(), u, old)
			_ = r.def.Dynamic.ValidateUpdate(u, old, false, func(...string) {})
			if r.def.Status {
				r.def.PrepareStatusUpdate(context.Background(), u, old)
				_ = r.def.Dynamic.ValidateUpdate(u, old, true, func(...string) {})
			}
			if r.def.Scale != nil {
				_ = r.def.Scale.Missing(u)
				r.def.Scale.Get(u)
				r.def.Scale.Set(u, 3)
			}
			if r.def.Fields != nil {
				r.def.Fields(u)
			}
			for _, c := range r.def.Columns {
				c.Cell(u, u.GetCreationTimestamp().Time)
			}
			stored, err := r.encode(u.Object)
			if err != nil {
				continue
			}
			for _, other := range k.versions {
				back, err := other.decode(unstructuredCopy(stored))
				if err == nil && (&unstructured.Unstructured{Object: back}).GroupVersionKind() != other.gvk {
					t.Fatalf("read as %v: %v", other.gvk, back)
				}
			}
		}
	})
}

func unstructuredCopy(m map[string]any) map[string]any {
	return (&unstructured.Unstructured{Object: m}).DeepCopy().Object
}

// FuzzDefinition takes any definition through its rules, and what they let pass
// into service.
func FuzzDefinition(f *testing.F) {
	d := apiextensions.CustomResourceDefinition()
	f.Add([]byte(fuzzed))
	f.Add([]byte(`{"spec":{"versions":[{"schema":{"openAPIV3Schema":{"properties":{"a":{"x-kubernetes-validations":[{"rule":"self"}]}}}}}],"conversion":{"strategy":"Webhook"}}}`))
	f.Add([]byte(`{"spec":{"names":{},"versions":[{"storage":true,"selectableFields":[{"jsonPath":""}],"additionalPrinterColumns":[{}]}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		crd := d.New().(*apiextensionsv1.CustomResourceDefinition)
		if kjson.UnmarshalCaseSensitivePreserveInts(data, crd) != nil {
			return
		}
		d.Default(crd)
		errs := d.Validate(crd)
		_ = d.ValidateUpdate(crd, crd)
		_ = d.Warnings(crd, nil)
		_ = structuralCondition(crd)
		if len(errs) > 0 {
			return
		}
		k := newKind(crd, crd.Spec.Names, webhooks{})
		for _, r := range k.versions {
			o := r.def.New()
			_, _ = r.def.Prune(o)
			r.def.Default(o)
			_ = r.def.Validate(o)
			if _, err := r.model(); err != nil {
				t.Fatalf("a valid definition cannot be described: %v", err)
			}
		}
	})
}

// FuzzReview reads any answer of a conversion webhook.
func FuzzReview(f *testing.F) {
	f.Add([]byte(`{"kind":"ConversionReview","apiVersion":"apiextensions.k8s.io/v1","response":{"uid":"u","result":{"status":"Success"},"convertedObjects":[{"apiVersion":"a/v1","kind":"K","metadata":{"labels":{"a":"b"}}}]}}`))
	f.Add([]byte(`{"response":{"convertedObjects":[null]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, version := range []string{"v1", "v1beta1"} {
			out, err := readReview(data, version, types.UID("u"), 1)
			if err != nil {
				continue
			}
			in := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "x"}}}
			_ = sameObject(in, out[0])
			_ = keepMetadata(in, out[0])
		}
	})
}
