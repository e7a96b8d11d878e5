package crd_test

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"sagong/apiserver/openapi"
	"sagong/kinds"
	"sagong/object"

	"net/http/httptest"
)

const versioned = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: multis.a.example.org}
spec:
  group: a.example.org
  scope: Namespaced
  names: {plural: multis, kind: Multi}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, description: the first, properties: {a: {type: string}}}}}}
  - name: v2
    served: SERVED
    storage: false
    deprecated: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, description: the second, properties: {b: {type: string}}}}}}
`

// conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of different groups [Conformance]
// conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group and version but different kinds [Conformance]
// conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group but different versions [Conformance]
// conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] removes definition from spec when one version gets changed to not be served [Conformance]
// conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] updates the published spec when one version gets renamed [Conformance]
func TestPublishVersions(t *testing.T) {
	c := start(t)
	c.define(simple("a.example.org", "foos", "Foo", "v1", anything))
	c.define(simple("b.example.org", "bars", "Bar", "v1", anything))
	name := c.define(strings.Replace(versioned, "SERVED", "true", 1))
	c.want(200, "GET", "/openapi/v2", "", `"org.example.a.v1.Foo":`, `"org.example.b.v1.Bar":`, `"org.example.a.v1.Multi":`, `"org.example.a.v2.Multi":`, "the second")
	c.want(200, "GET", "/openapi/v3/apis/a.example.org/v2", "", `"org.example.a.v2.Multi":`, `!"org.example.a.v1.Multi":`)
	change := func(s string) {
		c.want(200, "PATCH", crds+"/"+name, `{"spec":`+versionsOf(t, s)+`}`)
		c.settle(name)
	}
	change(strings.Replace(strings.Replace(versioned, "SERVED", "true", 1), "name: v2", "name: v3", 1))
	c.want(200, "GET", "/openapi/v2", "", `"org.example.a.v3.Multi":`, `!"org.example.a.v2.Multi":`)
	c.want(404, "GET", "/openapi/v3/apis/a.example.org/v2", "")
	change(strings.Replace(strings.Replace(versioned, "SERVED", "false", 1), "name: v2", "name: v3", 1))
	c.want(200, "GET", "/openapi/v2", "", `"org.example.a.v1.Multi":`, `!"org.example.a.v3.Multi":`)
	c.want(200, "GET", "/openapi/v3", "", `apis/a.example.org/v1`, `!apis/a.example.org/v3`)
}

// Versions without a webhook differ in name and schema.
func TestVersions(t *testing.T) {
	c := start(t)
	c.define(strings.Replace(versioned, "SERVED", "true", 1))
	const v1, v2 = "/apis/a.example.org/v1/namespaces/default/multis", "/apis/a.example.org/v2/namespaces/default/multis"
	c.want(201, "POST", v1, `{"apiVersion":"a.example.org/v1","kind":"Multi","metadata":{"name":"x"},"spec":{"a":"1"}}`)
	a := c.want(200, "GET", v2+"/x", "", `"apiVersion":"a.example.org/v2"`, `!"a":"1"`)
	if len(a.warnings) != 1 || !strings.Contains(a.warnings[0], "a.example.org/v2 Multi is deprecated") {
		t.Error(a.warnings)
	}
	c.want(200, "GET", v2, "", `"kind":"MultiList","apiVersion":"a.example.org/v2"`, `"items":[{"apiVersion":"a.example.org/v2"`)
	c.want(400, "POST", v2, `{"apiVersion":"a.example.org/v1","kind":"Multi","metadata":{"name":"y"}}`, "does not match the expected API version")
	// What the stored version does not know is not stored.
	c.want(201, "POST", v2, `{"apiVersion":"a.example.org/v2","kind":"Multi","metadata":{"name":"y"},"spec":{"b":"1"}}`)
	c.want(200, "GET", v2+"/y", "", `!"b":"1"`)
	c.want(200, "DELETE", v2+"/x", "")
	c.want(404, "GET", v1+"/x", "", `multis.a.example.org \"x\" not found`)
}

// conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD with validation schema [Conformance]
// conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD without validation schema [Conformance]
// conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields in an embedded object [Conformance]
// conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields at the schema root [Conformance]
func TestPublishSchemas(t *testing.T) {
	c := start(t)
	c.define(simple("a.example.org", "foos", "Foo", "v1", "{type: object, properties: {spec: {type: object, description: what is wanted, required: [num], properties: {num: {type: string}}}}}"))
	c.define(simple("b.example.org", "bars", "Bar", "v1", anything))
	c.define(simple("c.example.org", "boxes", "Box", "v1", "{type: object, properties: {spec: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}}}"))
	var doc struct {
		Definitions map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(c.want(200, "GET", "/openapi/v2", "").body), &doc); err != nil {
		t.Fatal(err)
	}
	foo := doc.Definitions["org.example.a.v1.Foo"]["properties"].(map[string]any)
	if s := foo["spec"].(map[string]any); s["description"] != "what is wanted" || !reflect.DeepEqual(s["required"], []any{"num"}) {
		t.Errorf("%v", s)
	}
	if m := foo["metadata"].(map[string]any); m["$ref"] != "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" {
		t.Errorf("%v", m)
	}
	// kubectl would take what is listed for all there may be.
	if bar := doc.Definitions["org.example.b.v1.Bar"]; bar["properties"] != nil {
		t.Errorf("%v", bar)
	}
	box := doc.Definitions["org.example.c.v1.Box"]["properties"].(map[string]any)["spec"].(map[string]any)
	if box["x-kubernetes-preserve-unknown-fields"] != true || box["properties"] != nil {
		t.Errorf("%v", box)
	}
	c.want(200, "GET", "/openapi/v3/apis/c.example.org/v1", "", `"x-kubernetes-embedded-resource":true`, `"required":["kind","apiVersion"]`)
	for _, accept := range []string{"application/com.github.proto-openapi.spec.v2@v1.0+protobuf", "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"} {
		path := "/openapi/v2"
		if strings.Contains(accept, "v3") {
			path = "/openapi/v3/apis/c.example.org/v1"
		}
		if a := c.do("GET", path, "", "Accept", accept); a.code != 200 || strings.HasPrefix(a.body, "{") {
			t.Errorf("%s: %d", accept, a.code)
		}
	}
}

// TestMetadataSchemas holds metadata.json to the published schemas.
func TestMetadataSchemas(t *testing.T) {
	h := openapi.New(object.NewScheme(kinds.All()...), "v1.37.2")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/openapi/v3/api/v1", nil))
	var doc struct {
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("metadata.json")
	if err != nil {
		t.Fatal(err)
	}
	var own map[string]any
	if err := json.Unmarshal(b, &own); err != nil {
		t.Fatal(err)
	}
	for name, s := range own {
		if want := plain(doc.Components.Schemas[name]); !reflect.DeepEqual(s, want) {
			t.Errorf("%s: %v, published %v", name, s, want)
		}
	}
}

// plain leaves out descriptions.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		// With a description beside it a reference is wrapped.
		if all, ok := v["allOf"].([]any); ok && len(all) == 1 {
			return plain(all[0])
		}
		out := map[string]any{}
		for k, e := range v {
			if _, text := e.(string); k != "description" || !text {
				out[k] = plain(e)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = plain(e)
		}
		return out
	}
	return v
}
