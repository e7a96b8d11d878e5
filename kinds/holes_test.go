package kinds

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sagong/object"
)

// TestHooksBearHoles takes the golden object of each kind, which has every
// field set, and for each field runs the rules over the object without it and
// over one with nothing else: no combination a client can send may panic.
func TestHooksBearHoles(t *testing.T) {
	dir := goldenDir(t)
	for _, d := range ofAPI() {
		t.Run(d.Group+"/"+d.Kind, func(t *testing.T) {
			t.Parallel()
			group := d.Group
			if group == "" {
				group = "core"
			}
			raw, err := os.ReadFile(filepath.Join(dir, group+"."+d.Version+"."+d.Kind+".json"))
			if err != nil {
				t.Fatal(err)
			}
			var golden map[string]any
			if err := json.Unmarshal(raw, &golden); err != nil {
				t.Fatal(err)
			}
			full := d.New()
			if err := json.Unmarshal(raw, full); err != nil {
				t.Fatal(err)
			}
			try := func(name string, tree any, old object.Object) {
				b, err := json.Marshal(tree)
				if err != nil {
					t.Fatal(err)
				}
				o := d.New()
				if json.Unmarshal(b, o) != nil {
					return // an empty text for a quantity or a time
				}
				defer func() {
					if r := recover(); r != nil {
						t.Errorf("%s: %v", name, r)
						panic(r)
					}
				}()
				if old == nil {
					runHooks(t, d, o, d.New())
					return
				}
				older := o.DeepCopyObject().(object.Object)
				runHooks(t, d, o, old.DeepCopyObject().(object.Object))
				runHooks(t, d, old.DeepCopyObject().(object.Object), older)
			}
			visit(golden, nil, func(path []any, leaf bool) {
				name := strings.Trim(strings.ReplaceAll(mustJSON(path), ",", "."), "[]")
				if leaf { // a text that is missing is no hole to fall into
					try(name+" alone", alone(golden, path), nil)
				} else {
					try(name+" removed", without(golden, path), full)
				}
			})
		})
	}
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// visit calls f with the path of every node. The specs of pod templates are
// left out: the code that checks them is that of pods.
func visit(node any, path []any, f func(path []any, leaf bool)) {
	_, object := node.(map[string]any)
	_, list := node.([]any)
	if len(path) > 0 {
		f(path, !object && !list)
	}
	switch n := node.(type) {
	case map[string]any:
		for k, v := range n {
			if len(path) > 0 && path[len(path)-1] == "template" && k == "spec" || len(path) == 0 && k == "metadata" {
				continue
			}
			visit(v, append(path[:len(path):len(path)], k), f)
		}
	case []any:
		for i, v := range n {
			visit(v, append(path[:len(path):len(path)], i), f)
		}
	}
}

// without copies the tree but for the node at path.
func without(node any, path []any) any {
	switch n := node.(type) {
	case map[string]any:
		out := make(map[string]any, len(n))
		for k, v := range n {
			switch {
			case k != path[0]:
				out[k] = v
			case len(path) > 1:
				out[k] = without(v, path[1:])
			}
		}
		return out
	case []any:
		var out []any
		for i, v := range n {
			switch {
			case i != path[0]:
				out = append(out, v)
			case len(path) > 1:
				out = append(out, without(v, path[1:]))
			}
		}
		return out
	}
	return node
}

// alone copies nothing of the tree but the node at path and what holds it.
func alone(node any, path []any) any {
	if len(path) == 0 {
		return node
	}
	switch n := node.(type) {
	case map[string]any:
		k := path[0].(string)
		return map[string]any{k: alone(n[k], path[1:])}
	case []any:
		return []any{alone(n[path[0].(int)], path[1:])}
	}
	return node
}
