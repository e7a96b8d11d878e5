package crd_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// TestDocumentsAsUpstream holds what is published of kinds to the documents that
// Kubernetes makes of their definitions.
func TestDocumentsAsUpstream(t *testing.T) {
	c := start(t)
	v3, v2 := map[string][]*spec3.OpenAPI{}, []*spec.Swagger{}
	for _, text := range []string{
		simple("a.example.org", "foos", "Foo", "v1", anything),
		simple("my-group.example.org", "myresources", "MyResource", "v1beta1", "{type: object, properties: {spec: {type: object, description: what is wanted, required: [num], properties: {num: {type: string}}}}}"),
		strings.Replace(versioned, "SERVED", "true", 1), everything, clusterWide,
	} {
		name := c.define(text)
		var d apiextensionsv1.CustomResourceDefinition
		if err := json.Unmarshal([]byte(c.want(200, "GET", crds+"/"+name, "").body), &d); err != nil {
			t.Fatal(err)
		}
		for _, v := range d.Spec.Versions {
			doc, err := builder.BuildOpenAPIV3(&d, v.Name, builder.Options{IncludeSelectableFields: true})
			if err != nil {
				t.Fatal(err)
			}
			gv := d.Spec.Group + "/" + v.Name
			v3[gv] = append(v3[gv], doc)
			old, err := builder.BuildOpenAPIV2(&d, v.Name, builder.Options{V2: true, IncludeSelectableFields: true})
			if err != nil {
				t.Fatal(err)
			}
			old.Definitions = handler.PruneDefaults(old.Definitions)
			v2 = append(v2, old)
		}
	}
	for gv, docs := range v3 {
		want, err := builder.MergeSpecsV3(docs...)
		if err != nil {
			t.Fatal(err)
		}
		got := c.want(200, "GET", "/openapi/v3/apis/"+gv, "").object
		same(t, gv, got, tree(t, want))
	}
	merged, err := builder.MergeSpecs(&spec.Swagger{SwaggerProps: spec.SwaggerProps{Paths: &spec.Paths{}}}, v2...)
	if err != nil {
		t.Fatal(err)
	}
	want, got := tree(t, merged), c.want(200, "GET", "/openapi/v2", "").object
	for _, part := range []string{"paths", "parameters", "definitions"} {
		w, g := want[part].(map[string]any), got[part].(map[string]any)
		for k := range g {
			if _, wanted := w[k]; !wanted {
				delete(g, k) // of kinds that are not custom
			}
		}
		same(t, "v2 "+part, g, w)
	}
}

func tree(t *testing.T, v any) (out map[string]any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// same names the places where two trees differ.
func same(t *testing.T, at string, got, want any) {
	t.Helper()
	switch w := want.(type) {
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			keys := slices.Sorted(maps.Keys(w))
			for k := range g {
				if _, both := w[k]; !both {
					keys = append(keys, k)
				}
			}
			for _, k := range keys {
				g, has := g[k]
				w, wanted := w[k]
				switch {
				case !has:
					t.Errorf("%s.%s lacks %.300v", at, k, w)
				case !wanted:
					t.Errorf("%s.%s has %.300v", at, k, g)
				default:
					same(t, at+"."+k, g, w)
				}
			}
			return
		}
	case []any:
		if g, ok := got.([]any); ok && len(g) == len(w) {
			for i := range w {
				same(t, fmt.Sprintf("%s[%d]", at, i), g[i], w[i])
			}
			return
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %.300v, upstream %.300v", at, got, want)
	}
}

const everything = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.all.example.org}
spec:
  group: all.example.org
  scope: Namespaced
  names: {plural: gadgets, singular: gadget, kind: Gadget, listKind: GadgetItems, shortNames: [gd], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    selectableFields: [{jsonPath: .spec.color}, {jsonPath: .spec.size}]
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}}
    schema:
      openAPIV3Schema:
        description: Gadget is a thing
        type: object
        required: [spec]
        properties:
          metadata: {type: object, properties: {name: {type: string, maxLength: 20}}}
          spec:
            type: object
            x-kubernetes-validations: [{rule: "self.size > 0", message: too small}]
            properties:
              color: {type: string, enum: [red, blue], default: red}
              size: {type: integer, format: int32, minimum: 1, maximum: 10, default: 2}
              replicas: {type: integer}
              port: {x-kubernetes-int-or-string: true}
              pattern: {x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}], allOf: [{pattern: "^a"}]}
              free: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {known: {type: string}}}
              nullable: {type: string, nullable: true}
              map: {type: object, additionalProperties: {type: object, properties: {a: {type: string, default: b}}}}
              anyMap: {type: object, additionalProperties: true}
              keyed: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [name], items: {type: object, required: [name], properties: {name: {type: string}}}}
              set: {type: array, x-kubernetes-list-type: set, items: {type: string}}
              whole: {type: object, x-kubernetes-map-type: atomic, properties: {a: {type: string}}}
              template: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}
              closed: {type: object, x-kubernetes-embedded-resource: true, required: [kind], properties: {spec: {type: object, properties: {x: {type: number}}}}}
              parts: {type: array, items: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}}
              one: {type: object, properties: {a: {type: string}, b: {type: string}}, oneOf: [{required: [a]}, {required: [b]}], not: {required: [c]}}
              raw: {x-kubernetes-preserve-unknown-fields: true}
              text: {type: string, format: date-time, pattern: "^x", externalDocs: {url: "https://example.org", description: more}, example: now}
          status: {type: object, properties: {replicas: {type: integer}, selector: {type: string}}}
  - name: v1alpha1
    served: true
    storage: false
    deprecated: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {spec: {type: object, properties: {a: {type: string, default: x}}}}}}
`

const clusterWide = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: engines.all.example.org}
spec:
  group: all.example.org
  scope: Cluster
  names: {plural: engines, kind: Engine}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {replicas: {type: integer}}}, status: {type: object, properties: {replicas: {type: integer}}}}}}
`
