package kinds

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"sagong/kinds/certificates"
	"sagong/kinds/core"
	"sagong/kinds/field"
	"sagong/object"
)

var rewrite = flag.Bool("rewrite", false, "write what the tests find into the golden files")

// TestGolden runs testdata/*.txtar. A file holds cases of one or more kinds.
// The section BASE.base is a valid object; the sections of a case are merge
// patches on the base named before the first slash:
//
//	BASE/CASE/create         patch; the object is defaulted, prepared, validated
//	BASE/CASE/old, .../new   the same for an update of old to new
//	BASE/CASE/old, .../status  the same for a write to status, and to the
//	                           subresources resize, ephemeral, approval
//	BASE/CASE/want           the errors and warnings found
//	BASE/CASE/object         patch; BASE/CASE/row is what the table prints of it
//	BASE/CASE/in             patch; BASE/CASE/out is the object as it is stored
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	scheme := object.NewScheme(every()...)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			g := &goldenFile{t: t, ar: ar, scheme: scheme, base: map[string][]byte{}}
			changed := g.run()
			if changed && *rewrite {
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

type goldenFile struct {
	t      *testing.T
	ar     *txtar.Archive
	scheme *object.Scheme
	base   map[string][]byte
}

func (g *goldenFile) run() (changed bool) {
	var out []txtar.File
	var old object.Object
	files := g.ar.Files
	for i := 0; i < len(files); i++ {
		f := files[i]
		out = append(out, f)
		if name, ok := strings.CutSuffix(f.Name, ".base"); ok {
			b, err := yaml.YAMLToJSON(f.Data)
			if err != nil {
				g.t.Fatalf("%s: %v", f.Name, err)
			}
			g.base[name] = b
			continue
		}
		at := strings.LastIndexByte(f.Name, '/')
		name, op := f.Name[:at], f.Name[at+1:]
		var result, got string
		switch op {
		case "old":
			old = g.object(f)
			continue
		case "create", "new", "status", "resize", "ephemeral", "approval":
			result = name + "/want"
			got = g.write(op, g.object(f), old)
			old = nil
		case "object":
			result = name + "/row"
			got = g.row(g.object(f))
		case "in":
			result = name + "/out"
			got = g.stored(g.object(f))
		default:
			g.t.Fatalf("%s: unknown section %q", f.Name, op)
		}
		want := ""
		if i+1 < len(files) && files[i+1].Name == result {
			want = string(files[i+1].Data)
			i++
		}
		if got != want {
			changed = true
			if !*rewrite {
				g.t.Errorf("%s:\n--- got\n%s--- want\n%s", result, got, want)
			}
		}
		out = append(out, txtar.File{Name: result, Data: []byte(got)})
	}
	g.ar.Files = out
	return changed
}

func (g *goldenFile) object(f txtar.File) object.Object {
	name, _, _ := strings.Cut(f.Name, "/")
	base, ok := g.base[name]
	if !ok {
		g.t.Fatalf("%s: no base %q", f.Name, name)
	}
	patch, err := yaml.YAMLToJSON(f.Data)
	if err != nil {
		g.t.Fatalf("%s: %v", f.Name, err)
	}
	if s := strings.TrimSpace(string(patch)); s != "null" && s != "" {
		if base, err = jsonpatch.MergePatch(base, patch); err != nil {
			g.t.Fatalf("%s: %v", f.Name, err)
		}
	}
	codec := kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, clientscheme.Scheme, clientscheme.Scheme, kjson.SerializerOptions{Strict: true})
	o, gvk, err := codec.Decode(base, nil, nil)
	if err != nil {
		g.t.Fatalf("%s: %v", f.Name, err)
	}
	d := g.scheme.ByKind(*gvk)
	if d == nil {
		g.t.Fatalf("%s: no definition of %s", f.Name, gvk)
	}
	if *gvk != d.GVK() {
		for _, v := range d.Served {
			if (schema.GroupVersion{Group: v.Group, Version: v.Version}) == gvk.GroupVersion() {
				if o, err = v.From(o); err != nil {
					g.t.Fatalf("%s: %v", f.Name, err)
				}
			}
		}
	}
	typed := o.(object.Object)
	if typed.GetUID() == "" {
		typed.SetUID("00000000-0000-0000-0000-000000000001")
	}
	if typed.GetNamespace() == "" && d.Namespaced {
		typed.SetNamespace("default")
	}
	return typed
}

func (g *goldenFile) definition(o object.Object) *object.Definition { return g.scheme.ByObject(o) }

func (g *goldenFile) write(op string, o, old object.Object) string {
	d := g.definition(o)
	var errs field.ErrorList
	var s strings.Builder
	if d.Default != nil {
		d.Default(o)
		if old != nil {
			d.Default(old)
		}
	}
	switch op {
	case "create":
		if d.PrepareCreate != nil {
			d.PrepareCreate(g.t.Context(), o)
		}
		if d.Validate != nil {
			errs = d.Validate(o)
		}
	case "new":
		if d.PrepareUpdate != nil {
			d.PrepareUpdate(g.t.Context(), o, old)
		}
		if d.ValidateUpdate != nil {
			errs = d.ValidateUpdate(o, old)
		}
	case "status":
		if d.PrepareStatusUpdate != nil {
			d.PrepareStatusUpdate(g.t.Context(), o, old)
		}
		if d.ValidateStatusUpdate != nil {
			errs = d.ValidateStatusUpdate(o, old)
		}
	case "resize":
		errs = core.ValidatePodResize(o.(*corev1.Pod), old.(*corev1.Pod))
	case "ephemeral":
		errs = core.ValidateEphemeralContainersUpdate(o.(*corev1.Pod), old.(*corev1.Pod))
	case "approval":
		errs = certificates.ValidateApproval(o.(*certificatesv1.CertificateSigningRequest), old.(*certificatesv1.CertificateSigningRequest))
	}
	for _, err := range errs {
		fmt.Fprintln(&s, strings.ReplaceAll(strings.ReplaceAll(strings.TrimRight(err.Error(), "\n "), "\u00a0", " "), "\n", "\n  "))
	}
	if d.Warnings != nil && (op == "create" || op == "new") {
		for _, w := range d.Warnings(o, old) {
			fmt.Fprintln(&s, "warning:", w)
		}
	}
	if s.Len() == 0 {
		return "valid\n"
	}
	return s.String()
}

func (g *goldenFile) row(o object.Object) string {
	var s strings.Builder
	d := g.definition(o)
	for _, c := range d.Columns {
		wide := ""
		if c.Priority > 0 {
			wide = " (wide)"
		}
		fmt.Fprintf(&s, "%s%s: %v\n", strings.ToUpper(c.Name), wide, c.Cell(o, testNow))
	}
	if d.RowConditions != nil {
		for _, c := range d.RowConditions(o) {
			fmt.Fprintf(&s, "condition %s %s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
		}
	}
	return s.String()
}

func (g *goldenFile) stored(o object.Object) string {
	d := g.definition(o)
	if d.Default != nil {
		d.Default(o)
	}
	if d.PrepareCreate != nil {
		d.PrepareCreate(g.t.Context(), o)
	}
	if d.Validate != nil {
		if errs := d.Validate(o); len(errs) > 0 {
			g.t.Errorf("%s %s is invalid: %v", d.Kind, o.GetName(), errs.ToAggregate())
		}
	}
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		g.t.Fatal(err)
	}
	b, err := json.Marshal(m)
	if err != nil {
		g.t.Fatal(err)
	}
	y, err := yaml.JSONToYAML(b)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(y)
}
