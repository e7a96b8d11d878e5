package openapi

import (
	"encoding/json"
	"mime"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sagong/kinds"
	"sagong/object"
)

func handler() *Handler {
	return New(object.NewScheme(append(kinds.All(), kinds.Workloads()...)...), "v1.37.2")
}

func get(t *testing.T, h http.Handler, path, accept string) []byte {
	t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 200 {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return w.Body.Bytes()
}

// Every document that the index names parses, refers only to schemas that it
// holds, and has a schema for each of its kinds.
func TestDocumentsAreWhole(t *testing.T) {
	h := handler()
	var index struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	if err := json.Unmarshal(get(t, h, "/openapi/v3", "*/*"), &index); err != nil {
		t.Fatal(err)
	}
	for path, e := range index.Paths {
		body := get(t, h, e.ServerRelativeURL, "application/json")
		var doc struct {
			Paths      map[string]json.RawMessage
			Components struct{ Schemas map[string]json.RawMessage }
		}
		if err := json.Unmarshal(body, &doc); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, m := range refPattern.FindAllSubmatch(body, -1) {
			if doc.Components.Schemas[string(m[1])] == nil {
				t.Errorf("%s refers to %s, which it lacks", path, m[1])
			}
		}
		d, _ := h.document(path)
		for _, k := range h.kinds(d.gv) {
			if s := string(doc.Components.Schemas[k.model]); !strings.Contains(s, "x-kubernetes-group-version-kind") {
				t.Errorf("%s: no schema for %s (%s)", path, k.gvk.Kind, k.model)
			}
		}
		get(t, h, "/openapi/v3/"+path, v3Proto)
	}
	get(t, h, "/openapi/v2", "application/json")
	get(t, h, "/openapi/v2", v2Proto)
	for _, sent := range []string{v2Proto, v3Proto} {
		if _, _, err := mime.ParseMediaType(sent); err != nil {
			t.Errorf("clients cannot parse %s: %v", sent, err)
		}
	}
}
