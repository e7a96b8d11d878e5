package openapi

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/openapi/openapitest"
)

func TestOperationsAsUpstream(t *testing.T) {
	docs, err := openapitest.NewEmbeddedFileClient().Paths()
	if err != nil {
		t.Fatal(err)
	}
	h := handler()
	for path, d := range docs {
		if _, served := h.document(path); !served {
			continue
		}
		b, err := d.Schema("application/json")
		if err != nil {
			t.Fatal(err)
		}
		want := operations(t, b)
		got := operations(t, get(t, h, "/openapi/v3/"+path, "application/json"))
		for k, w := range want {
			if g, ok := got[k]; !ok {
				t.Errorf("%s lacks %s", path, k)
			} else if g != w {
				t.Errorf("%s:\n%s\nupstream\n%s", k, g, w)
			}
		}
		for k := range got {
			if _, ok := want[k]; !ok && !strings.HasSuffix(k, "/resize") {
				t.Errorf("%s has %s", path, k)
			}
		}
	}
}

// operations says of each operation all but the texts of its parameters and what
// came after the documents were made.
func operations(t *testing.T, doc []byte) map[string]string {
	t.Helper()
	type content map[string]struct {
		Schema struct {
			Ref  string `json:"$ref"`
			Type string
		}
	}
	type param struct {
		Name, In string
		Required bool
	}
	var all struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(doc, &all); err != nil {
		t.Fatal(err)
	}
	types := func(c content) string {
		var out []string
		for _, k := range slices.Sorted(maps.Keys(c)) {
			if !strings.Contains(k, "cbor") {
				out = append(out, k+" "+c[k].Schema.Ref+c[k].Schema.Type)
			}
		}
		return strings.Join(out, ", ")
	}
	params := func(ps []param) string {
		var out []string
		for _, p := range ps {
			if !later[p.Name] {
				out = append(out, p.In+" "+p.Name)
			}
		}
		return strings.Join(out, " ")
	}
	found := map[string]string{}
	for path, item := range all.Paths {
		for method, raw := range item {
			if method == "parameters" {
				var ps []param
				if err := json.Unmarshal(raw, &ps); err != nil {
					t.Fatal(err)
				}
				found[path] = params(ps)
				continue
			}
			var op struct {
				OperationID, Description string
				Tags                     []string
				Action                   string            `json:"x-kubernetes-action"`
				Kind                     map[string]string `json:"x-kubernetes-group-version-kind"`
				Parameters               []param
				RequestBody              struct {
					Required bool
					Content  content
				}
				Responses map[string]struct {
					Description string
					Content     content
				}
			}
			if err := json.Unmarshal(raw, &op); err != nil {
				t.Fatal(err)
			}
			lines := []string{op.OperationID, op.Description, strings.Join(op.Tags, " "), op.Action, op.Kind["group"] + " " + op.Kind["version"] + " " + op.Kind["kind"], params(op.Parameters), types(op.RequestBody.Content)}
			for _, code := range slices.Sorted(maps.Keys(op.Responses)) {
				lines = append(lines, code+" "+op.Responses[code].Description+" "+types(op.Responses[code].Content))
			}
			found[method+" "+path] = strings.Join(lines, "\n")
		}
	}
	return found
}

// later are parameters that came later.
var later = map[string]bool{"sendInitialEvents": true, "ignoreStoreReadErrorWithClusterBreakingPotential": true, "stream": true, "shardSelector": true}
