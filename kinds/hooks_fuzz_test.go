package kinds

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"sagong/object"
)

// FuzzHooks sends what a client might through the rules of each kind: whatever
// decodes must be defaulted, prepared, validated and printed without a panic.
func FuzzHooks(f *testing.F) {
	defs := every()
	files, err := filepath.Glob(filepath.Join(goldenDir(f), "*.json"))
	if err != nil {
		f.Fatal(err)
	}
	for i, d := range defs {
		group := d.Group
		if group == "" {
			group = "core"
		}
		for _, file := range files {
			if filepath.Base(file) == group+"."+d.Version+"."+d.Kind+".json" {
				raw, err := os.ReadFile(file)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(uint8(i), raw, raw)
				f.Add(uint8(i), raw, []byte("{}"))
			}
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, now, was []byte) {
		d := defs[int(kind)%len(defs)]
		o, old := d.New(), d.New()
		if json.Unmarshal(now, o) != nil || json.Unmarshal(was, old) != nil {
			t.Skip()
		}
		runHooks(t, d, o, old)
	})
}

func runHooks(t *testing.T, d *object.Definition, o, old object.Object) {
	if d.Default != nil {
		d.Default(o)
		d.Default(old)
	}
	created := o.DeepCopyObject().(object.Object)
	if d.PrepareCreate != nil {
		d.PrepareCreate(t.Context(), created)
	}
	valid := true
	if d.Validate != nil {
		valid = len(d.Validate(created)) == 0
	}
	if d.Warnings != nil {
		d.Warnings(created, nil)
	}
	status := o.DeepCopyObject().(object.Object)
	if d.PrepareStatusUpdate != nil {
		d.PrepareStatusUpdate(t.Context(), status, old)
	}
	if d.ValidateStatusUpdate != nil {
		d.ValidateStatusUpdate(status, old)
	}
	if d.PrepareUpdate != nil {
		d.PrepareUpdate(t.Context(), o, old)
	}
	if d.ValidateUpdate != nil {
		d.ValidateUpdate(o, old)
	}
	if d.Warnings != nil {
		d.Warnings(o, old)
	}
	if d.Fields != nil {
		d.Fields(o)
	}
	// Tables and conversions only ever see what was valid once.
	if !valid {
		return
	}
	for _, c := range d.Columns {
		c.Cell(created, testNow)
	}
	for _, v := range d.Served {
		if _, err := v.To(created); err != nil {
			t.Errorf("cannot convert a valid %s: %v", d.Kind, err)
		}
	}
}
