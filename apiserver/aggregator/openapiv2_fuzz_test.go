package aggregator

import (
	"encoding/json"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// A server of others says what it likes: this one's document stays readable.
func FuzzMerge(f *testing.F) {
	const own = `{"swagger":"2.0","info":{"title":"own","version":"1"},"paths":{"/api/v1/":{}},"definitions":{"a":{"type":"object"}}}`
	for _, s := range []string{
		own, `{}`, `null`, `{"paths":null,"definitions":null}`,
		`{"swagger":"2.0","paths":{"/apis/g.example.org/v1/things":{"get":{"parameters":[{"$ref":"#/parameters/p"}],"responses":{"200":{"schema":{"$ref":"#/definitions/a"}}}}}},"definitions":{"a":{"type":"string"}},"parameters":{"p":{"name":"p","in":"query"}}}`,
		`{"paths":{"/apis/g.example.org/v1/":{"get":{"responses":{"200":{"schema":{"$ref":"#/definitions/nowhere"}}}}}}}`,
		`{"paths":{"/apis/g.example.org/v1/":null}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		var all spec.Swagger
		if err := json.Unmarshal([]byte(own), &all); err != nil {
			t.Fatal(err)
		}
		_ = merge(&all, doc, schema.GroupVersion{Group: "g.example.org", Version: "v1"})
		out, err := json.Marshal(&all)
		if err != nil {
			t.Skip() // the document before stays
		}
		var again spec.Swagger
		if err := json.Unmarshal(out, &again); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if _, ok := again.Paths.Paths["/api/v1/"]; !ok {
			t.Error("this server's own paths are lost")
		}
	})
}
