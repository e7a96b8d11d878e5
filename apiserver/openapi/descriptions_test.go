package openapi

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"sagong/kinds"
)

// Every field of k8s.io/api that is served is in the schemas and says what the
// module that is built in says: kubectl explain has nothing else to show.
func TestDescriptions(t *testing.T) {
	h := handler()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.load(); err != nil {
		t.Fatal(err)
	}
	seen := map[reflect.Type]bool{}
	fields := 0
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || seen[typ] || !strings.HasPrefix(typ.PkgPath(), "k8s.io/api/") {
			return
		}
		seen[typ] = true
		model := "io.k8s.api." + strings.ReplaceAll(strings.TrimPrefix(typ.PkgPath(), "k8s.io/api/"), "/", ".") + "." + typ.Name()
		var s struct {
			Properties map[string]struct{ Description string }
		}
		if err := json.Unmarshal(h.schemas[model], &s); err != nil {
			t.Errorf("schema %s: %v", model, err)
			return
		}
		var each func(reflect.Type)
		each = func(typ reflect.Type) {
			doc := map[string]string{}
			if d, ok := reflect.Zero(typ).Interface().(interface{ SwaggerDoc() map[string]string }); ok {
				doc = d.SwaggerDoc()
			}
			for i := range typ.NumField() {
				f := typ.Field(i)
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if name == "" && f.Anonymous && f.Type.Name() != "TypeMeta" {
					each(f.Type)
				}
				if walk(f.Type); name == "" || name == "-" {
					continue
				}
				fields++
				p, ok := s.Properties[name]
				if !ok {
					t.Errorf("%s has no %s", model, name)
				} else {
					// The schemas add to a text what an enumeration may be; the module's own
					// copy of it ends at a ruled line.
					said, _, _ := strings.Cut(p.Description, "Possible enum values:")
					if got, want := words(said), words(doc[name]); !strings.HasPrefix(got, want) || want == "" && got != "" {
						t.Errorf("%s.%s says %q, want %q", model, name, got, want)
					}
				}
			}
		}
		each(typ)
	}
	for _, d := range append(kinds.All(), kinds.Workloads()...) {
		walk(reflect.TypeOf(d.New()))
		for _, v := range d.Served {
			walk(reflect.TypeOf(v.New()))
		}
	}
	if fields < 1500 {
		t.Errorf("%d fields only", fields)
	}
}

// words are the letters and digits of a text: generators treat the rest differently.
func words(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }), " ")
}
