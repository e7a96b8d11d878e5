package apiserver_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// widget is a kind as one made at run time is defined: objects are maps.
func widget() *object.Definition {
	fresh := func(kind string) map[string]any {
		return map[string]any{"apiVersion": "example.org/v1", "kind": kind}
	}
	return &object.Definition{
		Hooks: object.Hooks{Prune: func(o object.Object) ([]string, error) {
			spec, ok := o.(*unstructured.Unstructured).Object["spec"].(map[string]any)
			if _, has := spec["secret"]; !ok || !has {
				return nil, nil
			}
			delete(spec, "secret")
			return []string{"spec.secret"}, nil
		}},
		Group: "example.org", Version: "v1", Kind: "Widget", Resource: "widgets", Singular: "widget", Namespaced: true, Status: true, Generation: true,
		New: func() object.Object { return &unstructured.Unstructured{Object: fresh("Widget")} },
		NewList: func() runtime.Object {
			return &unstructured.UnstructuredList{Object: fresh("WidgetList")}
		},
	}
}

func TestCustomKind(t *testing.T) {
	c := start(t)
	if err := c.engine.Scheme().Add(widget()); err != nil {
		t.Fatal(err)
	}
	base := "/apis/example.org/v1/namespaces/default/widgets"
	contains := func(code, want int, body string, parts ...string) {
		t.Helper()
		if code != want {
			t.Fatalf("%d %s, want %d", code, body, want)
		}
		for _, p := range parts {
			if !strings.Contains(body, p) {
				t.Fatalf("%s\nlacks %s", body, p)
			}
		}
	}
	code, b := c.do("POST", base, `{"apiVersion":"example.org/v1","kind":"Widget","metadata":{"name":"w"},"spec":{"size":3},"status":{"x":1}}`, "Content-Type", "application/json", "User-Agent", "me/1")
	contains(code, 201, b, `"apiVersion":"example.org/v1"`, `"size":3`, `"generation":1`, `"manager":"me"`, `"resourceVersion":"2"`)
	code, b = c.do("GET", base, "", "Accept", "application/vnd.kubernetes.protobuf,application/json")
	contains(code, 200, b, `"kind":"WidgetList"`, `"items":[{"apiVersion":"example.org/v1","kind":"Widget"`)
	code, b = c.do("GET", base, "", "Accept", "application/vnd.kubernetes.protobuf")
	contains(code, 406, b, "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf")
	code, b = c.do("POST", base, string(object.AppendEnvelope(nil, "example.org/v1", "Widget", 0)), "Content-Type", "application/vnd.kubernetes.protobuf")
	contains(code, 400, b, `Widget in version \"v1\" cannot be handled as a Widget: object *unstructured.Unstructured does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message`)
	code, b = c.do("PATCH", base+"/w", `{"spec":{"size":4}}`, "Content-Type", "application/merge-patch+json")
	contains(code, 200, b, `"size":4`, `"generation":2`)
	code, b = c.do("PATCH", base+"/w/status", `{"spec":{"size":9},"status":{"ready":true}}`, "Content-Type", "application/merge-patch+json")
	contains(code, 200, b, `"size":4`, `"ready":true`, `"generation":2`)
	code, b = c.do("PATCH", base+"/w?fieldManager=a&force=true", `{"apiVersion":"example.org/v1","kind":"Widget","metadata":{"name":"w"},"spec":{"color":"red"}}`, "Content-Type", "application/apply-patch+yaml")
	contains(code, 200, b, `"color":"red"`, `"size":4`, `"manager":"a"`)
	code, b = c.do("PATCH", base+"/w", `{}`, "Content-Type", "application/strategic-merge-patch+json")
	contains(code, 415, b, "application/merge-patch+json")
	code, b = c.do("GET", base, "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	contains(code, 200, b, `"cells":["w","`)
	code, b = c.do("GET", base+"?watch=1&timeoutSeconds=1", "")
	contains(code, 200, b, `{"type":"ADDED","object":{"apiVersion":"example.org/v1","kind":"Widget"`)
	code, b = c.do("POST", base+"?fieldValidation=Strict", `{"apiVersion":"example.org/v1","kind":"Widget","metadata":{"name":"v","nope":1},"spec":{"secret":1,"size":1,"size":2}}`, "Content-Type", "application/json")
	contains(code, 400, b, `Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: duplicate field \"spec.size\", unknown field \"metadata.nope\"`)
	code, b = c.do("POST", base+"?fieldValidation=Strict", `{"apiVersion":"example.org/v1","kind":"Widget","metadata":{"name":"v"},"spec":{"secret":1}}`, "Content-Type", "application/json")
	contains(code, 400, b, `strict decoding error: unknown field \"spec.secret\"`)
	code, b = c.do("POST", base, `{"metadata":{"name":"v"}}`, "Content-Type", "application/json")
	contains(code, 400, b, `the object provided is unrecognized (must be of type Widget): Object 'Kind' is missing in '{\"metadata\":{\"name\":\"v\"}}' ({\"metadata\":{\"name\":\"v\"}})`)
	code, b = c.do("POST", base, `{"kind":"Widget","metadata":{"name":"v"}}`, "Content-Type", "application/json")
	contains(code, 400, b, `the API version in the data () does not match the expected API version (example.org/v1)`)
	code, b, h := c.full("POST", base, `{"apiVersion":"example.org/v1","kind":"Widget","metadata":{"name":"v","nope":1},"spec":{"secret":1,"size":1}}`, "Content-Type", "application/json")
	contains(code, 201, b, `"spec":{"size":1}`)
	if strings.Contains(b, "nope") || len(h.Values("Warning")) != 2 {
		t.Fatalf("%s %v", b, h.Values("Warning"))
	}
	code, b = c.do("DELETE", base+"/w", "")
	contains(code, 200, b, `"status":"Success"`)
}
