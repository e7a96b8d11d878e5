package field

import (
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

func TestPathsAsUpstream(t *testing.T) {
	for _, c := range []struct {
		got  *Path
		want *field.Path
	}{
		{nil, nil},
		{NewPath("spec"), field.NewPath("spec")},
		{NewPath("spec", "template", "spec"), field.NewPath("spec", "template", "spec")},
		{NewPath("spec").Child("a").Index(2).Child("b", "c").Key("k.x").Child("d"), field.NewPath("spec").Child("a").Index(2).Child("b", "c").Key("k.x").Child("d")},
		{NewPath("a").Index(0).Index(11), field.NewPath("a").Index(0).Index(11)},
		{(*Path)(nil).Child("a", "b"), (*field.Path)(nil).Child("a", "b")},
		{(*Path)(nil).Index(1), (*field.Path)(nil).Index(1)},
		{(*Path)(nil).Key("k").Index(1), (*field.Path)(nil).Key("k").Index(1)},
		{NewPath("a").Child(""), field.NewPath("a").Child("")},
	} {
		if got, want := c.got.String(), c.want.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestErrorsAsUpstream(t *testing.T) {
	p, u := NewPath("a").Index(1), field.NewPath("a").Index(1)
	for _, c := range [][2]*Error{
		{Invalid(p, 3, "x"), field.Invalid(u, 3, "x")},
		{TypeInvalid(p, 3, "x"), field.TypeInvalid(u, 3, "x")},
		{NotFound(p, "v"), field.NotFound(u, "v")},
		{Required(p, "x"), field.Required(u, "x")},
		{Duplicate(p, "v"), field.Duplicate(u, "v")},
		{NotSupported(p, "v", []string{"a", "b"}), field.NotSupported(u, "v", []string{"a", "b"})},
		{Forbidden(p, "x"), field.Forbidden(u, "x")},
		{TooLong(p, "v", 3), field.TooLong(u, "v", 3)},
		{TooLongCharacters(p, "v", 3), field.TooLongCharacters(u, "v", 3)},
		{TooShort(p, "v", 3), field.TooShort(u, "v", 3)},
		{TooMany(p, 4, 3), field.TooMany(u, 4, 3)},
		{TooFew(p, 2, 3), field.TooFew(u, 2, 3)},
		{InternalError(p, errTest), field.InternalError(u, errTest)},
	} {
		if got, want := *c[0], *c[1]; got != want {
			t.Errorf("%#v, want %#v", got, want)
		}
	}
}

var errTest = &Error{Detail: "no"}

type thing struct {
	names []string
	below *thing
}

//go:noinline
func check(o *thing, p *Path) (errs ErrorList) {
	for i, name := range o.names {
		p := p.Child("names").Index(i)
		errs = append(errs, checkName(name, p.Key(name).Child("a", "b"))...)
	}
	if o.below != nil {
		errs = append(errs, check(o.below, p.Child("below"))...)
	}
	return errs
}

//go:noinline
func checkName(name string, p *Path) ErrorList {
	if name == "" {
		return ErrorList{Required(p, ""), Invalid(p.Child("x"), name, "no"), NotSupported(p, name, []string{"a"})}
	}
	return nil
}

// TestPathsAreNotAllocated holds everything here to not keeping paths.
func TestPathsAreNotAllocated(t *testing.T) {
	o := &thing{names: []string{"a", "b"}, below: &thing{names: []string{"c"}}}
	if n := testing.AllocsPerRun(100, func() { check(o, NewPath("spec", "deep")) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	o.below.names[0] = ""
	if errs := check(o, NewPath("spec", "deep")); len(errs) != 3 || errs[1].Field != "spec.deep.below.names[0][].a.b.x" {
		t.Errorf("%v", errs)
	}
}
