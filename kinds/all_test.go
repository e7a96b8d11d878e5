package kinds

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"sagong/object"
)

// withoutDefinition names the types of the stable groups that are no resource
// of their own, with the reason.
var withoutDefinition = map[string]string{
	"/v1 RangeAllocation":                     "how upstream stores allocated addresses; never served",
	"/v1 SerializedReference":                 "the value of an annotation",
	"/v1 NodeProxyOptions":                    "options of nodes/proxy",
	"/v1 PodAttachOptions":                    "options of pods/attach",
	"/v1 PodExecOptions":                      "options of pods/exec",
	"/v1 PodLogOptions":                       "options of pods/log",
	"/v1 PodPortForwardOptions":               "options of pods/portforward",
	"/v1 PodProxyOptions":                     "options of pods/proxy",
	"/v1 ServiceProxyOptions":                 "options of services/proxy",
	"authentication.k8s.io/v1 TokenRequest":   "body of serviceaccounts/token",
	"autoscaling/v1 Scale":                    "body of the scale subresources",
	"policy/v1 Eviction":                      "body of pods/eviction",
	"scheduling.k8s.io/v1beta1 PriorityClass": "served in v1 alone, as upstream does",
}

// every is all kinds, those that are switched on by users among them.
func every() []*object.Definition { return append(All(), Workloads()...) }

func TestEveryStableTypeHasADefinition(t *testing.T) {
	s := object.NewScheme(every()...)
	groups := map[schema.GroupVersion]bool{}
	for _, d := range every() {
		groups[schema.GroupVersion{Group: d.Group, Version: d.Version}] = true
		for _, v := range d.Served {
			groups[schema.GroupVersion{Group: v.Group, Version: v.Version}] = true
		}
	}
	listed := map[string]bool{}
	for gvk := range clientscheme.Scheme.AllKnownTypes() {
		if !groups[gvk.GroupVersion()] || strings.HasSuffix(gvk.Kind, "List") {
			continue
		}
		o, err := clientscheme.Scheme.New(gvk)
		if err != nil {
			t.Fatal(err)
		}
		// Options, WatchEvent and Status of meta/v1 are registered in every group.
		if reflect.TypeOf(o).Elem().PkgPath() == reflect.TypeFor[metav1.Status]().PkgPath() {
			continue
		}
		id := gvk.GroupVersion().String() + " " + gvk.Kind
		if gvk.Group == "" {
			id = "/" + id
		}
		if _, ok := withoutDefinition[id]; ok {
			listed[id] = true
			if s.ByKind(gvk) != nil {
				t.Errorf("%s has a definition and stands in withoutDefinition", id)
			}
			continue
		}
		if s.ByKind(gvk) == nil {
			t.Errorf("%s has no definition", id)
		}
	}
	for id := range withoutDefinition {
		if !listed[id] {
			t.Errorf("withoutDefinition names %s, which is not registered", id)
		}
	}
}

func typeString(o any) string { return reflect.TypeOf(o).String() }

// TestEveryFileIsInAll finds each exported function that returns a definition
// and demands that all.go calls it.
func TestEveryFileIsInAll(t *testing.T) {
	all, err := os.ReadFile("all.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	err = filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || filepath.Dir(path) == "." {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !fn.Name.IsExported() || fn.Type.Results == nil || len(fn.Type.Params.List) != 0 {
				continue
			}
			star, ok := fn.Type.Results.List[0].Type.(*ast.StarExpr)
			if !ok {
				continue
			}
			sel, ok := star.X.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Definition" {
				continue
			}
			found++
			call := f.Name.Name + "." + fn.Name.Name + "(),"
			if !bytes.Contains(all, []byte(call)) {
				t.Errorf("%s: all.go lacks %s", path, call)
			}
			if want := strings.ToLower(fn.Name.Name) + ".go"; filepath.Base(path) != want {
				t.Errorf("%s: the file of kind %s should be named %s", path, fn.Name.Name, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(every()); found != n {
		t.Errorf("found %d definitions in files, All has %d", found, n)
	}
}

// goldenDir is where k8s.io/api keeps one object of every type in every
// encoding, as upstream wrote it.
func goldenDir(t testing.TB) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api").Output()
	if err != nil {
		t.Fatalf("cannot find k8s.io/api: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "testdata", "HEAD")
}

// ofAPI are the kinds whose types k8s.io/api holds, and keeps golden files of.
func ofAPI() []*object.Definition {
	return slices.DeleteFunc(every(), func(d *object.Definition) bool {
		return !strings.HasPrefix(reflect.TypeOf(d.New()).Elem().PkgPath(), "k8s.io/api/")
	})
}

func TestGoldenFilesRoundTrip(t *testing.T) {
	dir := goldenDir(t)
	scheme := clientscheme.Scheme
	jsonCodec := kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, scheme, scheme, kjson.SerializerOptions{Strict: true})
	protoCodec := protobuf.NewSerializer(scheme, scheme)
	for _, d := range ofAPI() {
		kinds := []schema.GroupVersionKind{d.GVK()}
		for _, v := range d.Served {
			kinds = append(kinds, schema.GroupVersionKind{Group: v.Group, Version: v.Version, Kind: d.Kind})
		}
		for _, gvk := range kinds {
			t.Run(gvk.GroupVersion().String()+"/"+gvk.Kind, func(t *testing.T) {
				group := gvk.Group
				if group == "" {
					group = "core"
				}
				base := filepath.Join(dir, group+"."+gvk.Version+"."+gvk.Kind)
				decode := func(codec runtime.Decoder, b []byte) runtime.Object {
					// Raw extensions keep their bytes, and the files are indented.
					if b[0] == '{' {
						var buf bytes.Buffer
						if err := json.Compact(&buf, b); err != nil {
							t.Fatal(err)
						}
						b = buf.Bytes()
					}
					o, got, err := codec.Decode(b, nil, nil)
					if err != nil {
						t.Fatal(err)
					}
					if *got != gvk {
						t.Fatalf("decoded %s, want %s", got, gvk)
					}
					return o
				}
				read := func(ext string) []byte {
					b, err := os.ReadFile(base + ext)
					if err != nil {
						t.Fatal(err)
					}
					return b
				}
				rawJSON, rawProto := read(".json"), read(".pb")
				fromJSON, fromProto := decode(jsonCodec, rawJSON), decode(protoCodec, rawProto)
				y, err := yaml.YAMLToJSON(read(".yaml"))
				if err != nil {
					t.Fatal(err)
				}
				fromYAML := decode(jsonCodec, y)
				if !equality.Semantic.DeepEqual(fromJSON, fromYAML) {
					t.Error("JSON and YAML decode differently")
				}
				if !equality.Semantic.DeepEqual(fromJSON, fromProto) {
					t.Error("JSON and protobuf decode differently")
				}
				// What the definition makes is the type upstream encodes.
				var buf bytes.Buffer
				if err := protoCodec.Encode(fromJSON, &buf); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(buf.Bytes(), rawProto) {
					t.Error("protobuf bytes differ from upstream's")
				}
				if gvk == d.GVK() && typeString(d.New()) != typeString(fromJSON) {
					t.Errorf("New makes %s, upstream decodes %s", typeString(d.New()), typeString(fromJSON))
				}
				for _, v := range d.Served {
					if v.Group != gvk.Group || v.Version != gvk.Version {
						continue
					}
					stored, err := v.From(fromJSON)
					if err != nil {
						t.Fatal(err)
					}
					back, err := v.To(stored)
					if err != nil {
						t.Fatal(err)
					}
					again, err := v.From(back)
					if err != nil {
						t.Fatal(err)
					}
					if !equality.Semantic.DeepEqual(stored, again) {
						t.Error("conversion to this version and back loses something")
					}
				}
			})
		}
	}
}

// Without a schema, writes of a kind leave no managed fields, and server-side
// apply fails.
func TestEveryKindHasASchemaOfItsFields(t *testing.T) {
	fields := object.NewFieldManagers()
	for _, d := range every() {
		if d.Virtual || d.Group == "metrics.k8s.io" { // nothing writes them
			continue
		}
		c, err := fields.TypeConverter(d)
		if err != nil {
			t.Fatal(err)
		}
		o := d.New()
		o.GetObjectKind().SetGroupVersionKind(d.GVK())
		if _, err := c.ObjectToTyped(o); err != nil {
			t.Errorf("%s: %v", d.GVK(), err)
		}
	}
}
