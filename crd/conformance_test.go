package crd_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// simple is a definition of one version with the schema given (flow YAML).
func simple(group, plural, kind, version, schema string) string {
	return fmt.Sprintf(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[2]s.%[1]s, labels: {test: "yes"}}
spec:
  group: %[1]s
  scope: Namespaced
  names: {plural: %[2]s, kind: %[3]s}
  versions:
  - {name: %[4]s, served: true, storage: true, schema: {openAPIV3Schema: %[5]s}}
`, group, plural, kind, version, schema)
}

const anything = "{type: object, x-kubernetes-preserve-unknown-fields: true}"

// conformance: [sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition creating/deleting custom resource definition objects works [Conformance]
func TestCreateDeleteDefinition(t *testing.T) {
	c := start(t)
	name := c.define(simple("a.example.org", "foos", "Foo", "v1", anything))
	c.want(200, "DELETE", crds+"/"+name, "")
	c.await(name, func(d *apiextensionsv1.CustomResourceDefinition) bool { return d == nil })
	c.want(404, "GET", crds+"/"+name, "", `customresourcedefinitions.apiextensions.k8s.io \"foos.a.example.org\" not found`)
}

// conformance: [sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition getting/updating/patching custom resource definition status sub-resource works [Conformance]
func TestDefinitionStatus(t *testing.T) {
	c := start(t)
	name := c.define(simple("a.example.org", "foos", "Foo", "v1", anything))
	a := c.want(200, "GET", crds+"/"+name+"/status", "", `"type":"Established"`)
	conditions := append(a.field("status", "conditions").([]any), map[string]any{"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from an e2e test"})
	a.object["status"].(map[string]any)["conditions"] = conditions
	b, err := json.Marshal(a.object)
	if err != nil {
		t.Fatal(err)
	}
	c.want(200, "PUT", crds+"/"+name+"/status", string(b), `"type":"StatusUpdate"`)
	c.want(200, "PATCH", crds+"/"+name+"/status", `{"metadata":{"annotations":{"patched":"true"}},"status":{}}`, `"patched":"true"`, `"type":"StatusUpdate"`)
}

// conformance: [sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition listing custom resource definition objects works [Conformance]
func TestListDefinitions(t *testing.T) {
	c := start(t)
	for i := range 10 {
		c.define(simple("a.example.org", fmt.Sprintf("foo%cs", 'a'+i), fmt.Sprintf("Foo%c", 'a'+i), "v1", anything))
	}
	a := c.want(200, "GET", crds+"?labelSelector=test%3Dyes", "")
	if n := len(a.field("items").([]any)); n != 10 {
		t.Fatalf("%d definitions", n)
	}
	c.want(200, "DELETE", crds+"?labelSelector=test%3Dyes", "")
	for i := range 10 {
		c.await(fmt.Sprintf("foo%cs.a.example.org", 'a'+i), func(d *apiextensionsv1.CustomResourceDefinition) bool { return d == nil })
	}
	a = c.want(200, "GET", crds+"?labelSelector=test%3Dyes", "")
	if n := len(a.field("items").([]any)); n != 0 {
		t.Fatalf("%d definitions are left", n)
	}
}

// conformance: [sig-api-machinery] CustomResourceDefinition Watch [Privileged:ClusterAdmin] CustomResourceDefinition Watch watch on custom resource definition objects [Conformance]
func TestWatchCustomObjects(t *testing.T) {
	c := start(t)
	name := c.define(simple("a.example.org", "foos", "Foo", "v1", anything))
	const foos = "/apis/a.example.org/v1/namespaces/default/foos"
	resp, err := http.Get(c.url + "/apis/a.example.org/v1/foos?watch=1&timeoutSeconds=120")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, n := range []string{"a", "b"} {
		c.want(201, "POST", foos, `{"apiVersion":"a.example.org/v1","kind":"Foo","metadata":{"name":"`+n+`"}}`)
	}
	c.want(200, "PATCH", foos+"/a", `{"x":1}`)
	c.want(200, "DELETE", foos+"/a", "")
	c.want(200, "DELETE", foos+"/b", "")
	events := json.NewDecoder(resp.Body)
	for _, want := range []string{"ADDED a", "ADDED b", "MODIFIED a", "DELETED a", "DELETED b"} {
		var e struct {
			Type   string
			Object struct{ Metadata struct{ Name string } }
		}
		if err := events.Decode(&e); err != nil || e.Type+" "+e.Object.Metadata.Name != want {
			t.Fatalf("%+v, %v; want %s", e, err, want)
		}
	}
	// When the kind is gone, so is the watch.
	c.want(200, "DELETE", crds+"/"+name, "")
	if err := events.Decode(&struct{}{}); err == nil {
		t.Error("the watch goes on without its kind")
	}
}

// conformance: [sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] custom resource defaulting for requests and from storage works [Conformance]
func TestDefaulting(t *testing.T) {
	c := start(t)
	schema := func(fields string) string { return "{type: object, properties: {" + fields + "}}" }
	name := c.define(simple("a.example.org", "foos", "Foo", "v1", schema("a: {type: string}, b: {type: string}")))
	const foos = "/apis/a.example.org/v1/namespaces/default/foos"
	c.want(201, "POST", foos, `{"apiVersion":"a.example.org/v1","kind":"Foo","metadata":{"name":"old"}}`, `!"a":`)
	change := func(s string) {
		c.want(200, "PATCH", crds+"/"+name, `{"spec":`+versionsOf(t, simple("a.example.org", "foos", "Foo", "v1", s))+`}`)
		c.settle(name)
	}
	change(schema(`a: {type: string, default: A}, b: {type: string}`))
	c.want(200, "GET", foos+"/old", "", `"a":"A"`, `!"b":`)
	c.want(201, "POST", foos, `{"apiVersion":"a.example.org/v1","kind":"Foo","metadata":{"name":"new"}}`, `"a":"A"`)
	change(schema(`a: {type: string}, b: {type: string, default: B}`))
	c.want(200, "GET", foos+"/new", "", `"a":"A"`, `"b":"B"`)
	c.want(200, "GET", foos+"/old", "", `!"a":`, `"b":"B"`)
}

// conformance: [sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] should include custom resource definition resources in discovery documents [Conformance]
// conformance: [sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface for CRDs [Conformance]
// conformance: [sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery request for CRDs [Conformance]
func TestDiscovery(t *testing.T) {
	c := start(t)
	c.want(200, "GET", "/apis", "", `"name":"apiextensions.k8s.io"`)
	c.want(200, "GET", "/apis/apiextensions.k8s.io", "", `"groupVersion":"apiextensions.k8s.io/v1"`)
	c.want(200, "GET", "/apis/apiextensions.k8s.io/v1", "", `"name":"customresourcedefinitions"`, `"shortNames":["crd","crds"]`)
	c.define(simple("a.example.org", "foos", "Foo", "v1", anything))
	const aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	a := c.do("GET", "/apis", "", "Accept", aggregated+",application/json")
	for _, want := range []string{`"name":"a.example.org"`, `"resource":"foos","responseKind":{"group":"a.example.org","version":"v1","kind":"Foo"},"scope":"Namespaced","singularResource":"foo"`} {
		if !strings.Contains(a.body, want) {
			t.Errorf("%s\nlacks %s", a.body, want)
		}
	}
	c.want(200, "GET", "/apis/a.example.org", "", `"preferredVersion":{"groupVersion":"a.example.org/v1","version":"v1"}`)
	// The hash is of group/version/kind; verbs are in upstream's order.
	c.want(200, "GET", "/apis/a.example.org/v1", "", `"verbs":["delete","deletecollection","get","list","patch","create","update","watch"],"storageVersionHash":"r9NreOsIpV8="`)
}

// conformance: [sig-api-machinery] CustomResourceFieldSelectors [Privileged:ClusterAdmin] CustomResourceFieldSelectors MUST list and watch custom resources matching the field selector [Conformance]
func TestFieldSelectors(t *testing.T) {
	c := withWebhooks(t)
	url, bundle, _ := conversionWebhook(t, nil)
	c.define(gates(url, bundle, "v1"))
	gate := func(name, hostPort string) {
		c.want(201, "POST", gates1, `{"apiVersion":"conv.example.org/v1","kind":"Gate","metadata":{"name":"`+name+`"},"spec":{"hostPort":"`+hostPort+`"}}`)
	}
	gate("a", "h:1")
	gate("b", "g:1")
	c.want(200, "GET", gates1+"?fieldSelector=spec.hostPort%3Dh:1", "", `"name":"a"`, `!"name":"b"`)
	c.want(200, "GET", gates2+"?fieldSelector=spec.host%3Dg", "", `"name":"b"`, `!"name":"a"`)
	c.want(400, "GET", gates2+"?fieldSelector=spec.hostPort%3Dg", "", "field label not supported: spec.hostPort")
	resp, err := http.Get(c.url + gates2 + "?watch=1&timeoutSeconds=120&fieldSelector=spec.host%3Dh")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	gate("c", "h:2")
	c.want(200, "PATCH", gates1+"/a", `{"spec":{"hostPort":"g:9"}}`)
	c.want(200, "PATCH", gates1+"/b", `{"spec":{"hostPort":"h:9"}}`)
	c.want(200, "DELETE", gates1+"?fieldSelector=spec.hostPort%3Dh:9", "", `!"name":"c"`)
	events := json.NewDecoder(resp.Body)
	for _, want := range []string{"ADDED a", "ADDED c", "DELETED a", "ADDED b", "DELETED b"} {
		var e struct {
			Type   string
			Object struct{ Metadata struct{ Name string } }
		}
		if err := events.Decode(&e); err != nil || e.Type+" "+e.Object.Metadata.Name != want {
			t.Fatalf("%+v, %v; want %s", e, err, want)
		}
	}
}

// conformance: [sig-api-machinery] FieldValidation should create/apply a CR with unknown fields for CRD with no validation schema [Conformance]
// conformance: [sig-api-machinery] FieldValidation should create/apply a valid CR for CRD with validation schema [Conformance]
// conformance: [sig-api-machinery] FieldValidation should create/apply an invalid CR with extra properties for CRD with validation schema [Conformance]
// conformance: [sig-api-machinery] FieldValidation should detect duplicates in a CR when preserving unknown fields [Conformance]
// conformance: [sig-api-machinery] FieldValidation should detect unknown metadata fields in both the root and embedded object of a CR [Conformance]
func TestFieldValidation(t *testing.T) {
	c := start(t)
	c.define(simple("a.example.org", "anys", "Any", "v1", anything))
	c.define(simple("a.example.org", "foos", "Foo", "v1", "{type: object, properties: {spec: {type: object, properties: {x: {type: integer}}}}}"))
	c.define(simple("a.example.org", "boxes", "Box", "v1", `{type: object, properties: {spec: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {
		template: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}}}}}`))
	const ns = "/apis/a.example.org/v1/namespaces/default/"
	object := func(kind, rest string) string {
		return `{"apiVersion":"a.example.org/v1","kind":"` + kind + `",` + rest + `}`
	}
	c.want(201, "POST", ns+"anys?fieldValidation=Strict", object("Any", `"metadata":{"name":"a"},"foo":{"bar":1}`), `"foo":{"bar":1}`)
	c.want(201, "PATCH", ns+"anys/b?fieldManager=me&fieldValidation=Strict", "apiVersion: a.example.org/v1\nkind: Any\nmetadata: {name: b}\nfoo: {bar: 1}\n", `"bar":1`)
	c.want(400, "POST", ns+"anys?fieldValidation=Strict", object("Any", `"metadata":{"name":"d"},"foo":1,"foo":2`), `strict decoding error: duplicate field \"foo\"`)
	c.want(201, "POST", ns+"foos?fieldValidation=Strict", object("Foo", `"metadata":{"name":"a"},"spec":{"x":1}`))
	c.want(400, "POST", ns+"foos?fieldValidation=Strict", object("Foo", `"metadata":{"name":"b"},"spec":{"x":1,"y":2}`), `unknown field \"spec.y\"`)
	c.want(422, "PATCH", ns+"foos/a?fieldValidation=Strict", `{"spec":{"y":1}}`, `unknown field \"spec.y\"`)
	c.want(500, "PATCH", ns+"foos/c?fieldManager=me&fieldValidation=Strict", "apiVersion: a.example.org/v1\nkind: Foo\nmetadata: {name: c}\nspec: {z: 1}\n", `.spec.z: field not declared in schema`)
	a := c.want(201, "POST", ns+"foos?fieldValidation=Warn", object("Foo", `"metadata":{"name":"b","unknownMeta":1},"spec":{"x":1,"y":2}`))
	if len(a.warnings) != 2 {
		t.Error(a.warnings)
	}
	if a := c.want(201, "POST", ns+"foos?fieldValidation=Ignore", object("Foo", `"metadata":{"name":"c"},"spec":{"y":2}`)); len(a.warnings) != 0 {
		t.Error(a.warnings)
	}
	c.want(400, "POST", ns+"boxes?fieldValidation=Strict", object("Box", `"metadata":{"name":"a","unknownMeta":1},"spec":{"template":{"apiVersion":"v1","kind":"X","metadata":{"name":"t","unknownSub":1}}}`),
		`unknown field \"metadata.unknownMeta\"`)
	c.want(400, "POST", ns+"boxes?fieldValidation=Strict", object("Box", `"metadata":{"name":"a"},"spec":{"template":{"apiVersion":"v1","kind":"X","metadata":{"name":"t","unknownSub":1}}}`),
		`unknown field \"spec.template.metadata.unknownSub\"`)
	c.want(422, "POST", ns+"boxes", object("Box", `"metadata":{"name":"a"},"spec":{"template":{"kind":"X","metadata":{"name":"a/b"}}}`),
		"spec.template.apiVersion: Required value", "spec.template.metadata.name: Invalid value")
}
