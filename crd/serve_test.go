package crd_test

import (
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

const widgets = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size, labelSelectorPath: .status.selector}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size, description: how many}
    - {name: Color, type: string, jsonPath: .spec.color}
    selectableFields: [{jsonPath: .spec.color}]
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            properties:
              size: {type: integer, minimum: 0, default: 1}
              color: {type: string, enum: [red, green]}
              port: {x-kubernetes-int-or-string: true}
              note: {type: string, nullable: true}
              any: {type: object, x-kubernetes-preserve-unknown-fields: true}
              items:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items:
                  type: object
                  required: [name]
                  properties: {name: {type: string}, value: {type: string}}
          status:
            type: object
            properties: {size: {type: integer}, selector: {type: string}, ready: {type: boolean}}
`

const base = "/apis/example.org/v1/namespaces/default/widgets"

func TestServe(t *testing.T) {
	c := start(t)
	c.want(404, "GET", base, "", "404 page not found")
	name := c.define(widgets)
	c.want(200, "GET", crds+"/"+name, "", `"acceptedNames":{`, `"storedVersions":["v1"]`, `"type":"NamesAccepted"`, `"reason":"NoConflicts"`, `"reason":"InitialNamesAccepted"`)

	a := c.want(201, "POST", base, "{\"apiVersion\":\"example.org/v1\",\"kind\":\"Widget\",\"metadata\":{\"name\":\"a\"},\"spec\":{\"color\":\"red\",\"bad\":1,\"any\":{\"x\":{\"y\":1}},\"port\":\"http\",\"note\":null},\"status\":{\"size\":3}}",
		`"size":1`, `"any":{"x":{"y":1}}`, `"generation":1`, `"port":"http"`, `"note":null`, `!"bad"`, `!"status"`)
	if len(a.warnings) != 1 || !strings.Contains(a.warnings[0], `unknown field \"spec.bad\"`) {
		t.Error(a.warnings)
	}
	c.want(422, "POST", base, `{"apiVersion":"example.org/v1","kind":"Widget","metadata":{"name":"b"},"spec":{"size":-1,"color":"blue"}}`,
		`Widget.example.org \"b\" is invalid: [`, `spec.size: Invalid value: -1: spec.size in body should be greater than or equal to 0`,
		`spec.color: Unsupported value: \"blue\": supported values: \"red\", \"green\"`)
	c.want(422, "POST", base, `{"apiVersion":"example.org/v1","kind":"Widget","metadata":{"name":"b"}}`, `spec: Required value`)
	c.want(422, "POST", base, `{"apiVersion":"example.org/v1","kind":"Widget","metadata":{"name":"b"},"spec":{"items":[{"name":"x"},{"name":"x"}]}}`, `spec.items[1]: Duplicate value: {\"name\":\"x\"}`)
	c.want(400, "POST", base+"?fieldValidation=Strict", `{"apiVersion":"example.org/v1","kind":"Widget","metadata":{"name":"b"},"spec":{"bad":1,"size":1,"size":2}}`, `strict decoding error: duplicate field \"spec.size\"`)
	c.want(400, "POST", base+"?fieldValidation=Strict", `{"apiVersion":"example.org/v1","kind":"Widget","metadata":{"name":"b"},"spec":{"bad":1}}`, `strict decoding error: unknown field \"spec.bad\"`)

	c.want(200, "PATCH", base+"/a", `{"spec":{"size":2}}`, `"generation":2`, `"size":2`)
	c.want(200, "PATCH", base+"/a/status", `{"spec":{"size":9},"metadata":{"labels":{"x":"y"}},"status":{"size":2,"ready":true,"selector":"a=b"}}`, `"generation":2`, `"ready":true`, `!"x":"y"`)
	c.want(200, "GET", base+"/a/scale", "", `"spec":{"replicas":2}`, `"status":{"replicas":2,"selector":"a=b"}`)
	c.want(200, "PATCH", base+"/a/scale", `{"spec":{"replicas":5}}`, `"replicas":5`)
	c.want(200, "GET", base+"/a", "", `"generation":3`, `"size":5`, `"subresource":"scale"`)

	// Server-side apply knows lists with keys.
	c.want(200, "PATCH", base+"/a?fieldManager=one", "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: a}\nspec: {items: [{name: x, value: '1'}]}\n", `"name":"x"`)
	c.want(200, "PATCH", base+"/a?fieldManager=two", "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: a}\nspec: {items: [{name: w, value: '2'}]}\n", `"name":"x"`, `"name":"w"`, `k:{\"name\":\"w\"}`)
	c.want(409, "PATCH", base+"/a?fieldManager=two", "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: a}\nspec: {items: [{name: x, value: '2'}]}\n", `conflict with \"one\"`)

	c.want(201, "POST", base, `{"apiVersion":"example.org/v1","kind":"Widget","metadata":{"name":"g"},"spec":{"color":"green"}}`)
	c.want(200, "GET", base+"?fieldSelector=spec.color%3Dgreen", "", `"name":"g"`, `!"name":"a"`)
	c.want(400, "GET", base+"?fieldSelector=spec.size%3D1", "", `field label not supported: spec.size`)
	table := c.do("GET", base, "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	for _, want := range []string{`"cells":["a",5,"red"]`, `"description":"how many"`, `Custom resource definition column (in JSONPath format): .spec.color`} {
		if !strings.Contains(table.body, want) {
			t.Errorf("%s\nlacks %s", table.body, want)
		}
	}
	c.want(200, "GET", "/apis/example.org/v1", "", `"name":"widgets"`, `"shortNames":["wd"]`, `"categories":["all"]`, `"name":"widgets/scale"`, `"name":"widgets/status"`)
	c.want(200, "GET", "/openapi/v3/apis/example.org/v1", "", `"org.example.v1.Widget"`, `"x-kubernetes-group-version-kind":[{"group":"example.org","kind":"Widget","version":"v1"}]`, `x-kubernetes-selectable-fields`)
	c.want(200, "GET", "/openapi/v2", "", `"org.example.v1.WidgetList"`)

	// The end: objects first, then the definition, then the paths.
	c.want(200, "DELETE", crds+"/"+name, "", `"customresourcecleanup.apiextensions.k8s.io"`, `"type":"Terminating"`)
	c.await(name, func(d *apiextensionsv1.CustomResourceDefinition) bool { return d == nil })
	c.want(404, "GET", base, "")
	c.want(404, "GET", "/apis/example.org/v1", "")
	if n := len(mustList(t, c)); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}
