package kinds

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestResources keeps in testdata/resources.txt what discovery says of every
// resource, as kubectl api-resources -o wide would show it.
func TestResources(t *testing.T) {
	var s strings.Builder
	for _, d := range every() {
		group := d.Version
		if d.Group != "" {
			group = d.Group + "/" + d.Version
		}
		for _, v := range d.Served {
			group += "," + strings.TrimPrefix(v.Group+"/"+v.Version, "/")
		}
		fmt.Fprintf(&s, "%s %s %s", d.Resource, group, d.Kind)
		if d.Namespaced {
			s.WriteString(" namespaced")
		}
		for _, f := range []struct {
			name string
			on   bool
		}{
			{"virtual", d.Virtual}, {"status", d.Status}, {"scale", d.Scale != nil}, {"generation", d.Generation}, {"lazy", d.Lazy}, {"ttl", d.TTL != nil},
			{"create-on-update", d.AllowCreateOnUpdate}, {"no-unconditional-update", d.RefuseUnconditionalUpdate}, {"graceful", d.BeforeDelete != nil},
		} {
			if f.on {
				s.WriteString(" " + f.name)
			}
		}
		if d.DefaultPropagation != "" {
			fmt.Fprintf(&s, " propagation=%s", d.DefaultPropagation)
		}
		s.WriteByte('\n')
		if len(d.ShortNames)+len(d.Categories) > 0 || d.Singular != strings.ToLower(d.Kind) {
			fmt.Fprintf(&s, "  names: %s %v %v\n", d.Singular, d.ShortNames, d.Categories)
		}
		if d.Verbs != nil {
			fmt.Fprintf(&s, "  verbs: %v\n", d.Verbs)
		}
		for _, sub := range d.Subresources {
			fmt.Fprintf(&s, "  /%s %s %v\n", sub.Name, strings.TrimPrefix(sub.Group+"/"+sub.Version+" "+sub.Kind, "/"), sub.Verbs)
		}
		if len(d.FieldNames) > 0 {
			fmt.Fprintf(&s, "  fields: %s\n", strings.Join(d.FieldNames, " "))
		}
		var names []string
		for _, c := range d.Columns {
			name := strings.ToUpper(c.Name)
			if c.Priority > 0 {
				name = "(" + name + ")"
			}
			names = append(names, name)
		}
		fmt.Fprintf(&s, "  columns: %s\n", strings.Join(names, ", "))
	}
	golden(t, "testdata/resources.txt", s.String())
}

// TestColumns keeps in testdata/columns.txt how every column is declared.
func TestColumns(t *testing.T) {
	var s strings.Builder
	for _, d := range every() {
		fmt.Fprintf(&s, "%s\n", d.GVK())
		for _, c := range d.Columns {
			fmt.Fprintf(&s, "  %s %s", c.Name, c.Type)
			if c.Format != "" {
				fmt.Fprintf(&s, "(%s)", c.Format)
			}
			if c.Priority > 0 {
				fmt.Fprintf(&s, " wide")
			}
			doc := c.Description
			if len(doc) > 70 {
				doc = doc[:70]
			}
			fmt.Fprintf(&s, ": %q\n", doc)
		}
	}
	golden(t, "testdata/columns.txt", s.String())
}

// golden holds got against a file, which -rewrite writes.
func golden(t *testing.T, file, got string) {
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s has changed; got\n%s", file, got)
	}
}
