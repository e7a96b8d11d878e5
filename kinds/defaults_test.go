package kinds

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"

	"sagong/object"
)

var testNow = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// TestDefaultIsIdempotent defaults an empty object of each kind and the golden
// one, which has every field set, and expects a second pass to change nothing.
func TestDefaultIsIdempotent(t *testing.T) {
	dir := goldenDir(t)
	for _, d := range ofAPI() {
		if d.Default == nil {
			continue
		}
		t.Run(d.Group+"/"+d.Kind, func(t *testing.T) {
			group := d.Group
			if group == "" {
				group = "core"
			}
			raw, err := os.ReadFile(filepath.Join(dir, group+"."+d.Version+"."+d.Kind+".json"))
			if err != nil {
				t.Fatal(err)
			}
			golden := d.New()
			if err := runtime.DecodeInto(clientscheme.Codecs.UniversalDeserializer(), raw, golden); err != nil {
				t.Fatal(err)
			}
			for name, o := range map[string]object.Object{"empty": d.New(), "golden": golden} {
				d.Default(o)
				once := o.DeepCopyObject()
				d.Default(o)
				if !equality.Semantic.DeepEqual(once, o) {
					t.Errorf("%s: defaulting twice differs from once:\n%+v\n%+v", name, once, o)
				}
			}
		})
	}
}

// TestHooksBearEmptyObjects runs every hook over an empty object and the golden
// one: whatever a client sends must not make the server panic.
func TestHooksBearEmptyObjects(t *testing.T) {
	dir := goldenDir(t)
	for _, d := range ofAPI() {
		t.Run(d.Group+"/"+d.Kind, func(t *testing.T) {
			group := d.Group
			if group == "" {
				group = "core"
			}
			raw, err := os.ReadFile(filepath.Join(dir, group+"."+d.Version+"."+d.Kind+".json"))
			if err != nil {
				t.Fatal(err)
			}
			golden := func() object.Object {
				o := d.New()
				if err := runtime.DecodeInto(clientscheme.Codecs.UniversalDeserializer(), raw, o); err != nil {
					t.Fatal(err)
				}
				return o
			}
			for _, pair := range [][2]object.Object{{d.New(), d.New()}, {golden(), golden()}, {d.New(), golden()}, {golden(), d.New()}} {
				o, old := pair[0], pair[1]
				if d.Validate != nil {
					d.Validate(o) // before defaulting: templates inside may lack it
				}
				if d.Default != nil {
					d.Default(o)
					d.Default(old)
				}
				before := old.DeepCopyObject()
				if d.PrepareCreate != nil {
					d.PrepareCreate(t.Context(), o)
				}
				if d.PrepareUpdate != nil {
					d.PrepareUpdate(t.Context(), o, old)
				}
				if d.PrepareStatusUpdate != nil {
					d.PrepareStatusUpdate(t.Context(), o, old)
				}
				if d.Validate != nil {
					d.Validate(o)
				}
				if d.ValidateUpdate != nil {
					d.ValidateUpdate(o, old)
				}
				if d.ValidateStatusUpdate != nil {
					d.ValidateStatusUpdate(o, old)
				}
				if d.Warnings != nil {
					d.Warnings(o, nil)
					d.Warnings(o, old)
				}
				if d.Fields != nil {
					set, names := d.Fields(o), map[string]bool{}
					for _, all := range append([]object.ServedVersion{{FieldNames: d.FieldNames}}, d.Served...) {
						for _, name := range all.FieldNames {
							names[name] = true
						}
					}
					if len(set) != len(names) {
						t.Errorf("Fields has %d entries, FieldNames %d", len(set), len(names))
					}
					for name := range names {
						if _, ok := set[name]; !ok {
							t.Errorf("Fields lacks %s", name)
						}
					}
				}
				for _, c := range d.Columns {
					switch v := c.Cell(o, testNow).(type) {
					case string, int64, bool:
					default:
						t.Errorf("column %s: a cell of type %T", c.Name, v)
					}
				}
				if d.Scale != nil {
					d.Scale.Set(o, 7)
					if got := d.Scale.Get(o).Spec.Replicas; got != 7 {
						t.Errorf("scale: set 7, got %d", got)
					}
				}
				if !equality.Semantic.DeepEqual(before, old) {
					t.Error("a hook changed the old object")
				}
			}
		})
	}
}
