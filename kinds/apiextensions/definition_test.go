package apiextensions

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"sagong/object"
)

// golden is the definition with every field set, as upstream keeps it.
func golden(t *testing.T) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/apiextensions-apiserver").Output()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "pkg/apis/testdata/HEAD/apiextensions.k8s.io.v1.CustomResourceDefinition.json"))
	if err != nil {
		t.Fatal(err)
	}
	c := &apiextensionsv1.CustomResourceDefinition{}
	if err := json.Unmarshal(b, c); err != nil {
		t.Fatal(err)
	}
	return c
}

// The hooks bear an empty object and one with every field; defaulting twice is
// defaulting once, and the stored form keeps everything.
func TestHooksBearAll(t *testing.T) {
	d := CustomResourceDefinition()
	for name, c := range map[string]*apiextensionsv1.CustomResourceDefinition{"empty": {}, "golden": golden(t)} {
		d.Default(c)
		once := c.DeepCopy()
		d.Default(c)
		if !equality.Semantic.DeepEqual(once, c) {
			t.Errorf("%s: defaulting twice differs from once", name)
		}
		if len(d.Validate(c)) == 0 || len(d.ValidateUpdate(c, once)) == 0 {
			t.Errorf("%s is found valid", name)
		}
		d.Warnings(c, nil)
		d.ValidateStatusUpdate(c, once)
		d.BeginDelete(c)
		if !equality.Semantic.DeepEqual(once.Spec, c.Spec) {
			t.Errorf("%s: a hook changed the spec", name)
		}
		c.ResourceVersion, c.TypeMeta = "", once.TypeMeta
		codec := object.NewCodec(d)
		b, err := codec.Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		back, err := codec.Decode(b, 0)
		if err != nil {
			t.Fatal(err)
		}
		got := back.(*apiextensionsv1.CustomResourceDefinition)
		if !equality.Semantic.DeepEqual(got.Spec, c.Spec) || !equality.Semantic.DeepEqual(got.Status, c.Status) {
			t.Errorf("%s: what is read differs from what was stored", name)
		}
	}
}

// A definition whose versions share a schema is told of faults at the top, as
// upstream does; one whose versions differ, at the version.
func TestWhereFaultsAre(t *testing.T) {
	one := `{"metadata":{"name":"foos.a.example.org"},"spec":{"group":"a.example.org","scope":"Cluster","names":{"plural":"foos","kind":"Foo"},"versions":[
		{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"a":{"type":"strin"}}}}}]}}`
	two := strings.Replace(one, `"versions":[`, `"versions":[{"name":"v2","served":true,"storage":false,"schema":{"openAPIV3Schema":{"type":"object"}}},`, 1)
	for text, want := range map[string]string{
		one: `spec.validation.openAPIV3Schema.properties[a].type: Unsupported value: "strin": supported values: "array", "boolean", "integer", "number", "object", "string"`,
		two: `spec.versions[1].schema.openAPIV3Schema.properties[a].type: Unsupported value: "strin": supported values: "array", "boolean", "integer", "number", "object", "string"`,
	} {
		c := &apiextensionsv1.CustomResourceDefinition{}
		if err := json.Unmarshal([]byte(text), c); err != nil {
			t.Fatal(err)
		}
		d := CustomResourceDefinition()
		d.Default(c)
		d.PrepareCreate(t.Context(), c)
		errs := d.Validate(c)
		if len(errs) != 1 || errs[0].Error() != want {
			t.Errorf("%v\nwant %s", errs, want)
		}
	}
}
