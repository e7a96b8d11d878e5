package check

import (
	"slices"
	"strings"
	"testing"

	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
)

// A name is right, and what is said of one that is not, as the library has it.
func FuzzNames(f *testing.F) {
	for _, s := range []string{
		"", "a", "0", "A", "-", ".", "_", "/", "a/", "/a", "a/b/c", "kube-api-access-x7k2p", "example.org/Note_1.b", "example.org/note-",
		"example..org/a", "example.-org/a", "example-.org/a", "Example.org/a", "a.b-c.d/e", "http-0", "80", "8o", "a--b", "aé", "a\x00",
		strings.Repeat("a", 15), strings.Repeat("a", 16), strings.Repeat("a", 63), strings.Repeat("a", 64),
		strings.Repeat("a", 64) + "/b", strings.Repeat("a.", 130) + "a/b", "a/" + strings.Repeat("b", 64),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for name, rules := range map[string][2]func(string) []string{
			"IsDNS1123Label":  {IsDNS1123Label, utilvalidation.IsDNS1123Label},
			"IsQualifiedName": {IsQualifiedName, utilvalidation.IsQualifiedName},
			"IsValidPortName": {IsValidPortName, utilvalidation.IsValidPortName},
		} {
			if got, want := rules[0](s), rules[1](s); !slices.Equal(got, want) {
				t.Errorf("%s of %q is %q, want %q", name, s, got, want)
			}
		}
		if got, want := LabelName(nil, s), len(utilvalidation.IsQualifiedName(s)); len(got) != want {
			t.Errorf("LabelName of %q is %v", s, got)
		}
	})
}
