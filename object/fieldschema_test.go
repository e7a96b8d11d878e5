package object

import (
	"encoding/binary"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

var rewriteSchema = flag.Bool("rewrite-schema", false, "write fields.schema anew, after another version of client-go was chosen")

// TestFieldSchema holds the file equal to the library's YAML.
func TestFieldSchema(t *testing.T) {
	want := librarySchema(t)
	if *rewriteSchema {
		if err := os.WriteFile("fields.schema", encodeSchema(t, want), 0o644); err != nil {
			t.Fatal(err)
		}
		fieldSchema = string(encodeSchema(t, want))
	}
	got := builtinFields().Schema.Types
	if len(got) != len(want) {
		t.Fatalf("%d types, want %d: run this test with -rewrite-schema", len(got), len(want))
	}
	for i := range want {
		if !sameAtom(got[i].Atom, want[i].Atom) || got[i].Name != want[i].Name {
			t.Fatalf("%s differs from the library's: run this test with -rewrite-schema", want[i].Name)
		}
	}
}

// librarySchema is what the libraries say of the built-in kinds and, beside them,
// of CustomResourceDefinition and APIService.
func librarySchema(t *testing.T) []schema.TypeDef {
	all := schemaIn(t, "k8s.io/client-go", "applyconfigurations/internal/internal.go")
	known := map[string]bool{}
	for _, d := range all {
		known[d.Name] = true
	}
	for _, module := range []string{"k8s.io/apiextensions-apiserver", "k8s.io/kube-aggregator"} {
		for _, d := range schemaIn(t, module, "pkg/client/applyconfiguration/internal/internal.go") {
			if !known[d.Name] {
				known[d.Name] = true
				all = append(all, d)
			}
		}
	}
	return all
}

func schemaIn(t *testing.T, module, file string) []schema.TypeDef {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), file))
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok1 := strings.Cut(string(source), "typed.YAMLObject(`")
	text, _, ok2 := strings.Cut(text, "`)")
	if !ok1 || !ok2 {
		t.Fatal("the library's schema is not where it was")
	}
	p, err := typed.NewParser(typed.YAMLObject(text))
	if err != nil {
		t.Fatal(err)
	}
	return p.Schema.Types
}

// sameAtom leaves out what the library no longer reads (unions).
func sameAtom(a, b schema.Atom) bool {
	if !reflect.DeepEqual(a.Scalar, b.Scalar) || (a.List == nil) != (b.List == nil) || (a.Map == nil) != (b.Map == nil) {
		return false
	}
	if a.List != nil && (a.List.ElementRelationship != b.List.ElementRelationship || !reflect.DeepEqual(a.List.Keys, b.List.Keys) || !sameRef(a.List.ElementType, b.List.ElementType)) {
		return false
	}
	if a.Map == nil {
		return true
	}
	if a.Map.ElementRelationship != b.Map.ElementRelationship || !sameRef(a.Map.ElementType, b.Map.ElementType) || len(a.Map.Fields) != len(b.Map.Fields) {
		return false
	}
	for i, f := range a.Map.Fields {
		g := b.Map.Fields[i]
		if f.Name != g.Name || !reflect.DeepEqual(f.Default, g.Default) || !sameRef(f.Type, g.Type) {
			return false
		}
	}
	return true
}

func sameRef(a, b schema.TypeRef) bool {
	return reflect.DeepEqual(a.NamedType, b.NamedType) && reflect.DeepEqual(a.ElementRelationship, b.ElementRelationship) &&
		a.Nullable == b.Nullable && sameAtom(a.Inlined, b.Inlined)
}

// schemaWriter writes what schemaReader reads.
type schemaWriter struct {
	t       *testing.T
	body    []byte
	strings []string
	index   map[string]int
}

func encodeSchema(t *testing.T, types []schema.TypeDef) []byte {
	w := &schemaWriter{t: t, index: map[string]int{}}
	w.number(len(types))
	for _, d := range types {
		w.text(d.Name)
		w.atom(d.Atom)
	}
	head := binary.AppendUvarint(nil, uint64(len(w.strings)))
	for _, s := range w.strings {
		head = append(binary.AppendUvarint(head, uint64(len(s))), s...)
	}
	return append(head, w.body...)
}

func (w *schemaWriter) number(n int) { w.body = binary.AppendUvarint(w.body, uint64(n)) }

func (w *schemaWriter) text(s string) {
	i, ok := w.index[s]
	if !ok {
		i = len(w.strings)
		w.index[s], w.strings = i, append(w.strings, s)
	}
	w.number(i)
}

func bit(set bool, b int) int {
	if set {
		return b
	}
	return 0
}

func (w *schemaWriter) atom(a schema.Atom) {
	w.number(bit(a.Scalar != nil, hasScalar) | bit(a.List != nil, hasList) | bit(a.Map != nil, hasMap))
	if a.Scalar != nil {
		w.text(string(*a.Scalar))
	}
	if a.List != nil {
		w.ref(a.List.ElementType)
		w.text(string(a.List.ElementRelationship))
		w.number(len(a.List.Keys))
		for _, k := range a.List.Keys {
			w.text(k)
		}
	}
	if a.Map != nil {
		w.ref(a.Map.ElementType)
		w.text(string(a.Map.ElementRelationship))
		w.number(len(a.Map.Fields))
		for _, f := range a.Map.Fields {
			w.text(f.Name)
			w.ref(f.Type)
			w.value(f.Default)
		}
	}
}

func (w *schemaWriter) ref(r schema.TypeRef) {
	inlined := r.Inlined != (schema.Atom{})
	w.number(bit(r.NamedType != nil, hasName) | bit(inlined, hasInlined) | bit(r.ElementRelationship != nil, hasRelationship) | bit(r.Nullable, isNullable))
	if r.NamedType != nil {
		w.text(*r.NamedType)
	}
	if inlined {
		w.atom(r.Inlined)
	}
	if r.ElementRelationship != nil {
		w.text(string(*r.ElementRelationship))
	}
}

func (w *schemaWriter) value(v any) {
	switch v := v.(type) {
	case nil:
		w.number(noDefault)
	case string:
		w.number(textDefault)
		w.text(v)
	case int:
		w.number(numberDefault)
		w.number(v)
	case bool:
		w.number(map[bool]int{false: falseDefault, true: trueDefault}[v])
	case map[any]any:
		w.number(mapDefault)
		w.number(len(v))
		for _, k := range slices.Sorted(maps.Keys(texts(w.t, v))) {
			w.text(k)
			w.value(v[k])
		}
	default:
		w.t.Fatalf("a default of %T cannot be written", v)
	}
}

func texts(t *testing.T, m map[any]any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		s, ok := k.(string)
		if !ok {
			t.Fatalf("a key of %T cannot be written", k)
		}
		out[s] = v
	}
	return out
}

func BenchmarkBuiltinFields(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		builtinFields()
	}
}
