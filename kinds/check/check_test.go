package check

import (
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"
	upstream "k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/field"
)

func TestPaths(t *testing.T) {
	for _, tt := range []struct {
		path     string
		relative bool
		own      bool
	}{
		{"a", true, true}, {"a/b..c", true, true}, {"", true, true},
		{"/a", false, false}, {"..", false, false}, {"../a", false, false}, {"a/../b", false, false},
		{`a\..\b`, true, true}, {"..a", true, false}, {"..a/b", true, false},
	} {
		if got := len(RelativePath(field.NewPath("p"), tt.path)) == 0; got != tt.relative {
			t.Errorf("RelativePath(%q) accepts: %v, want %v", tt.path, got, tt.relative)
		}
		if got := len(OwnPath(field.NewPath("p"), tt.path)) == 0; got != tt.own {
			t.Errorf("OwnPath(%q) accepts: %v, want %v", tt.path, got, tt.own)
		}
	}
}

func TestPercentOf(t *testing.T) {
	for _, tt := range []struct {
		in intstr.IntOrString
		n  int
		ok bool
	}{
		{intstr.FromString("25%"), 25, true}, {intstr.FromString("0%"), 0, true}, {intstr.FromString("25"), 0, false},
		{intstr.FromString("%"), 0, false}, {intstr.FromString("-1%"), 0, false}, {intstr.FromInt32(25), 0, false},
		{intstr.FromString("99999999999999999999%"), 1 << 30, true},
	} {
		if n, ok := PercentOf(tt.in); n != tt.n || ok != tt.ok {
			t.Errorf("PercentOf(%v) = %d, %v; want %d, %v", tt.in, n, ok, tt.n, tt.ok)
		}
	}
}

func TestZero(t *testing.T) {
	for in, want := range map[intstr.IntOrString]bool{
		intstr.FromInt32(0): true, intstr.FromString("0%"): true, intstr.FromInt32(1): false, intstr.FromString("1%"): false, intstr.FromString("x"): false,
	} {
		if got := Zero(in); got != want {
			t.Errorf("Zero(%v) = %v", in, got)
		}
	}
}

func TestOneOfListsWhatIsAllowed(t *testing.T) {
	errs := RequiredOneOf(field.NewPath("p"), "c", "b", "a")
	if want := `p: Unsupported value: "c": supported values: "a", "b"`; len(errs) != 1 || errs[0].Error() != want {
		t.Errorf("got %v, want %s", errs, want)
	}
	if errs := RequiredOneOf(field.NewPath("p"), "", "b"); len(errs) != 1 || errs[0].Type != upstream.ErrorTypeRequired {
		t.Errorf("an empty value: %v", errs)
	}
	if errs := RequiredOneOf(field.NewPath("p"), "b", "b"); len(errs) != 0 {
		t.Errorf("an allowed value: %v", errs)
	}
}
