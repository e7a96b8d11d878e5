package crd_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"sagong/apiserver/resource"
	"sagong/store"
)

const foos = "/apis/a.example.org/v1/namespaces/default/foos"

func foo(name, spec string) string {
	return `{"apiVersion":"a.example.org/v1","kind":"Foo","metadata":{"name":"` + name + `"},"spec":` + spec + `}`
}

// conformance: [sig-api-machinery] CustomResourceValidationRules MUST NOT fail validation for create of a custom resource that satisfies the x-kubernetes-validations rules
// conformance: [sig-api-machinery] CustomResourceValidationRules MUST fail validation for create of a custom resource that does not satisfy the x-kubernetes-validations rules
// conformance: [sig-api-machinery] CustomResourceValidationRules MUST fail update of a custom resource that does not satisfy a x-kubernetes-validations transition rule
func TestValidationRules(t *testing.T) {
	c := start(t)
	c.define(simple("a.example.org", "foos", "Foo", "v1", `{type: object, properties: {spec: {type: object,
		x-kubernetes-validations: [
			{rule: "self.x > 0", message: x must be positive, reason: FieldValueForbidden, fieldPath: .x},
			{rule: "!has(self.w) || self.w <= self.x", messageExpression: "'w may be %d at most'.format([self.x])"},
			{rule: "oldSelf.hasValue() || !has(self.late)", optionalOldSelf: true, message: not at first}],
		properties: {
			x: {type: integer, x-kubernetes-validations: [{rule: "self >= oldSelf", message: x must not fall}]},
			w: {type: integer}, late: {type: string}}}}}`))
	c.want(201, "POST", foos, foo("a", `{"x":2,"w":1}`))
	c.want(422, "POST", foos, foo("b", `{"x":0}`), `spec.x: Forbidden: x must be positive`, `"reason":"FieldValueForbidden"`)
	c.want(422, "POST", foos, foo("b", `{"x":2,"w":3}`), `w may be 2 at most`)
	c.want(422, "POST", foos, foo("b", `{"x":2,"late":"z"}`), `not at first`)
	c.want(200, "PATCH", foos+"/a", `{"spec":{"x":3,"late":"z"}}`)
	c.want(422, "PATCH", foos+"/a", `{"spec":{"x":1}}`, `spec.x: Invalid value: 1: x must not fall`)
	c.want(422, "POST", foos, foo("b", `{"x":"one"}`), `spec.x: Invalid value: \"string\": spec.x in body must be of type integer: \"string\"`, "some validation rules were not checked")
}

// TestLongQuantitiesInRules gives rules texts that would keep them busy for ever.
func TestLongQuantitiesInRules(t *testing.T) {
	c := start(t)
	c.define(simple("a.example.org", "foos", "Foo", "v1", `{type: object, properties: {
		spec: {type: string, maxLength: 2000000, x-kubernetes-validations: [{rule: "isQuantity(self) && quantity(self).isLessThan(quantity('1k'))"}]}}}`))
	for _, size := range []string{"1e-1000000000", "1e1000000000", strings.Repeat("1", 20_000)} {
		c.want(422, "POST", foos, foo("a", `"`+size+`"`), "spec: Invalid value", "unable to parse quantity's suffix")
	}
	c.want(422, "POST", foos, foo("a", `"2k"`), "failed rule")
	c.want(201, "POST", foos, foo("a", `"1e2"`))
}

// conformance: [sig-api-machinery] CustomResourceValidationRules MUST fail create of a custom resource definition that contains a x-kubernetes-validations rule that refers to a property that do not exist
// conformance: [sig-api-machinery] CustomResourceValidationRules MUST fail create of a custom resource definition that contains an x-kubernetes-validations rule that contains a syntax error
// conformance: [sig-api-machinery] CustomResourceValidationRules MUST fail create of a custom resource definition that contains an x-kubernetes-validations rule that exceeds the estimated cost limit
func TestDefinitionsWithWrongRules(t *testing.T) {
	c := start(t)
	for rule, want := range map[string]string{
		"self.nope > 1": "undefined field 'nope'",
		"self = 1":      "Syntax error",
		"self.list.all(a, self.list.all(b, self.list.all(d, a + b + d == '')))": "estimated rule cost exceeds budget by factor of more than 100x",
		"oldSelf.list.size() == 0 || true":                                      "",
	} {
		d := simple("a.example.org", "foos", "Foo", "v1", `{type: object, properties: {spec: {type: object, x-kubernetes-validations: [{rule: "`+rule+`"}], properties: {list: {type: array, items: {type: string}}}}}}`)
		if want == "" {
			c.want(201, "POST", crds, d)
			continue
		}
		c.want(422, "POST", crds, d, "x-kubernetes-validations[0].rule", want)
	}
	for schema, want := range map[string]string{
		"{type: object, properties: {spec: {}}}": "spec.validation.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields",
		"{type: object, properties: {l: {type: array, x-kubernetes-list-type: map, items: {type: object, properties: {k: {type: string}}}, x-kubernetes-list-map-keys: [k]}}}": "items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
		"{type: object, properties: {a: {type: integer, default: one}}}":                                                                                              `default: Invalid value: \"string\"`,
		"{type: object, properties: {l: {type: array, items: {type: object, properties: {x: {type: string, x-kubernetes-validations: [{rule: self == oldSelf}]}}}}}}": "oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[l]",
		"{type: string}": "must be object at the root",
	} {
		c.want(422, "POST", crds, simple("a.example.org", "bars", "Bar", "v1", schema), want)
	}
	c.want(422, "POST", crds, strings.Replace(simple("a.example.org", "bars", "Bar", "v1", anything), "name: bars.", "name: others.", 1), `metadata.name: Invalid value: \"others.a.example.org\": must be spec.names.plural+\".\"+spec.group`)
	c.want(422, "POST", crds, simple("a.k8s.io", "bars", "Bar", "v1", anything), `metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation`)
	c.want(400, "POST", crds+"?fieldValidation=Strict", strings.Replace(simple("a.example.org", "bars", "Bar", "v1", anything), "scope:", "scopes: 1\n  scope:", 1), `unknown field \"spec.scopes\"`)
}

// What was wrong before a schema became stricter may stay as it is.
func TestRatcheting(t *testing.T) {
	c := start(t)
	name := c.define(simple("a.example.org", "foos", "Foo", "v1", "{type: object, properties: {spec: {type: object, properties: {a: {type: string}, b: {type: string}}}}}"))
	c.want(201, "POST", foos, foo("x", `{"a":"long","b":"long"}`))
	c.want(200, "PATCH", crds+"/"+name, `{"spec":`+versionsOf(t, simple("a.example.org", "foos", "Foo", "v1",
		"{type: object, properties: {spec: {type: object, properties: {a: {type: string, maxLength: 2}, b: {type: string, maxLength: 2}}}}}"))+`}`)
	c.settle(name)
	c.want(200, "PATCH", foos+"/x", `{"spec":{"b":"s"}}`, `"a":"long"`)
	c.want(422, "PATCH", foos+"/x", `{"spec":{"a":"other"}}`, `spec.a: Too long: may not be more than 2 bytes`)
}

// Two definitions that want the same names: the second waits until the first is gone.
func TestNameConflicts(t *testing.T) {
	c := start(t)
	first := c.define(simple("a.example.org", "foos", "Foo", "v1", anything))
	c.want(201, "POST", crds, simple("a.example.org", "fooses", "Foo", "v1", anything))
	const second = "fooses.a.example.org"
	c.await(second, func(d *apiextensionsv1.CustomResourceDefinition) bool {
		return d != nil && condition(d, apiextensionsv1.NamesAccepted) == "False"
	})
	c.want(200, "GET", crds+"/"+second, "", `"reason":"ListKindConflict"`, `\"FooList\" is already in use`, `"reason":"NotAccepted","message":"not all names are accepted"`)
	c.want(404, "GET", "/apis/a.example.org/v1/fooses", "")
	c.want(200, "DELETE", crds+"/"+first, "")
	c.await(second, func(d *apiextensionsv1.CustomResourceDefinition) bool {
		return d != nil && condition(d, apiextensionsv1.Established) == "True"
	})
	c.want(200, "GET", "/apis/a.example.org/v1/fooses", "")
	// One that never was established goes at once.
	c.want(201, "POST", crds, simple("a.example.org", "foos", "Foo", "v1", anything))
	c.want(200, "DELETE", crds+"/"+first, "")
	c.await(first, func(d *apiextensionsv1.CustomResourceDefinition) bool { return d == nil })
}

// A definition waits for objects with finalizers, and lets nobody create more.
func TestTerminating(t *testing.T) {
	c := start(t)
	name := c.define(simple("a.example.org", "foos", "Foo", "v1", anything))
	c.want(201, "POST", foos, `{"apiVersion":"a.example.org/v1","kind":"Foo","metadata":{"name":"x","finalizers":["example.org/wait"]}}`)
	c.want(200, "DELETE", crds+"/"+name, "")
	c.await(name, func(d *apiextensionsv1.CustomResourceDefinition) bool {
		if d == nil {
			t.Fatal("the definition went before its object")
		}
		for _, cond := range d.Status.Conditions {
			if cond.Type == apiextensionsv1.Terminating {
				return cond.Reason == "InstanceDeletionInProgress"
			}
		}
		return false
	})
	c.want(403, "POST", foos, foo("y", "{}"), `foos.a.example.org \"y\" is forbidden: create not allowed while custom resource definition is terminating`)
	c.want(200, "GET", "/apis/a.example.org/v1", "", `"verbs":["delete","deletecollection","get","list","watch"]`)
	c.want(200, "PATCH", foos+"/x", `{"metadata":{"finalizers":null}}`)
	c.await(name, func(d *apiextensionsv1.CustomResourceDefinition) bool { return d == nil })
}

// After a restart what was established is served at once, however much it is.
func TestRestart(t *testing.T) {
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	c := startOn(t, s, nil)
	const many = 100
	for i := range many {
		c.define(strings.ReplaceAll(strings.ReplaceAll(widgets, "idget", fmt.Sprintf("idget%d", i)), "[wd]", fmt.Sprintf("[wd%d]", i)))
	}
	c.want(201, "POST", "/apis/example.org/v1/namespaces/default/widget7s", `{"apiVersion":"example.org/v1","kind":"Widget7","metadata":{"name":"a"},"spec":{"color":"red"}}`)
	again := startOn(t, s, nil)
	again.want(200, "GET", "/apis/example.org/v1/widget7s", "", `"color":"red"`)
	again.want(422, "POST", "/apis/example.org/v1/namespaces/default/widget7s", `{"apiVersion":"example.org/v1","kind":"Widget7","metadata":{"name":"b"},"spec":{"color":"blue"}}`)
	resp, err := http.Get(again.url + "/openapi/v2")
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(err, resp)
	}
	resp.Body.Close()
}

// A rule that an object breaks, and broke before, is warned of.
func TestRatchetedRulesWarn(t *testing.T) {
	c := start(t)
	free := simple("a.example.org", "foos", "Foo", "v1", `{type: object, properties: {spec: {type: object, properties: {x: {type: integer}}}, status: {type: object, properties: {seen: {type: integer}}}}}`)
	free = strings.Replace(free, "storage: true", "storage: true, subresources: {status: {}}", 1)
	name := c.define(free)
	c.want(201, "POST", foos, foo("a", `{"x":9}`))
	c.want(200, "PATCH", crds+"/"+name, `{"spec":`+versionsOf(t, strings.Replace(free, "x: {type: integer}", `x: {type: integer, x-kubernetes-validations: [{rule: "self < 5", message: too much}]}`, 1))+`}`)
	c.settle(name)
	for path, patch := range map[string]string{foos + "/a": `{"metadata":{"labels":{"a":"b"}}}`, foos + "/a/status": `{"status":{"seen":1}}`} {
		a := c.want(200, "PATCH", path, patch)
		if want := `299 - "spec.x: Invalid value: 9: too much"`; len(a.warnings) != 1 || a.warnings[0] != want {
			t.Errorf("%s: warnings %q, want %q", path, a.warnings, want)
		}
	}
	c.want(422, "PATCH", foos+"/a", `{"spec":{"x":8}}`, "too much")
}

// Who writes the number of replicas through scale is known as long as somebody
// was before; the time is not kept.
func TestScaleOwners(t *testing.T) {
	c := start(t)
	c.define(strings.Replace(simple("a.example.org", "foos", "Foo", "v1", `{type: object, properties: {spec: {type: object, properties: {size: {type: integer}, x: {type: integer}}}, status: {type: object, properties: {size: {type: integer}}}}}`),
		"storage: true", "storage: true, subresources: {scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}}", 1))
	scale := func(n string) string {
		return `{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"a"},"spec":{` + n + `}}`
	}
	c.want(201, "POST", foos+"?fieldManager=one", foo("a", `{"size":1,"x":1}`))
	c.want(200, "PUT", foos+"/a/scale?fieldManager=two", scale(`"replicas":2`))
	c.want(200, "GET", foos+"/a", "", `{"apiVersion":"a.example.org/v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:size":{}}},"manager":"two","operation":"Update","subresource":"scale"}`)
	c.want(200, "PUT", foos+"/a/scale?fieldManager=two", scale(""))
	c.want(200, "GET", foos+"/a", "", `"size":0`, `!"subresource":"scale"`)
	c.want(200, "PUT", foos+"/a/scale?fieldManager=two", scale(`"replicas":3`))
	c.want(200, "GET", foos+"/a", "", `"size":3`, `!"subresource":"scale"`)
	c.want(500, "PATCH", foos+"/a/scale?fieldManager=three", "apiVersion: autoscaling/v1\nkind: Scale\nmetadata: {name: a}\nspec: {replicas: 4}\n",
		`"message":"failed to create manager for existing fields: failed to convert live object (/; autoscaling/v1, Kind=Scale) to proper version: request to convert CR to an invalid group/version: autoscaling/v1"`)

	c.want(201, "POST", foos, foo("b", `{"x":1}`))
	c.want(500, "GET", foos+"/b/scale", "", `the spec replicas field \".spec.size\" does not exist`)
	c.want(400, "PATCH", foos+"/b/scale", `{}`, `the spec replicas field \".spec.size\" cannot be empty`)
	c.want(200, "PUT", foos+"/b/scale", strings.Replace(scale(`"replicas":3`), `"a"`, `"b"`, 1), `"replicas":3`)
}

// What an apply configuration says twice, and preconditions of a whole collection.
func TestApplyStrictlyAndPreconditions(t *testing.T) {
	c := start(t)
	c.define(simple("a.example.org", "foos", "Foo", "v1", anything))
	a := c.want(201, "POST", foos, foo("a", `{}`))
	twice := strings.TrimSuffix(foo("a", `{}`), "}") + `,"spec":{}}`
	got := c.do("PATCH", foos+"/a?fieldManager=m&fieldValidation=Strict", twice, "Content-Type", "application/apply-patch+yaml")
	if want := `"message":"error strict decoding patch: error converting YAML to JSON: yaml: unmarshal errors:\n  line 1: key \"spec\" already set in map"`; got.code != 400 || !strings.Contains(got.body, want) {
		t.Errorf("%d %s, want %s", got.code, got.body, want)
	}
	got = c.do("PATCH", foos+"/a?fieldManager=m", twice, "Content-Type", "application/apply-patch+yaml")
	if want := `299 - "line 1: key \"spec\" already set in map"`; got.code != 200 || len(got.warnings) != 1 || got.warnings[0] != want {
		t.Errorf("%d %q, want %s", got.code, got.warnings, want)
	}
	c.want(409, "DELETE", foos, `{"preconditions":{"uid":"x"}}`,
		fmt.Sprintf(`Operation cannot be fulfilled on Foo.a.example.org \"a\": the UID in the precondition (x) does not match the UID in record (%s)`, a.field("metadata", "uid")))
	c.want(409, "DELETE", foos, `{"preconditions":{"resourceVersion":"1"}}`, `Operation cannot be fulfilled on Foo.a.example.org \"a\": the ResourceVersion in the precondition (1) does not match`)
	c.want(200, "GET", foos+"/a", "")
}
