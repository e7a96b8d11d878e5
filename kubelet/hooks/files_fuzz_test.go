package hooks

import (
	"strings"
	"testing"
)

func FuzzParseResolvConf(f *testing.F) {
	f.Add("nameserver 10.0.0.1\nsearch a b\noptions ndots:5\n# x\n")
	f.Add("nameserver\nsearch\n\x00options")
	f.Fuzz(func(t *testing.T, text string) {
		r := parseResolvConf(text)
		for _, list := range [][]string{r.servers, r.searches, r.options} {
			for _, s := range list {
				if strings.ContainsAny(s, "\n \t") {
					t.Errorf("%q", s)
				}
			}
		}
	})
}

func FuzzExpand(f *testing.F) {
	f.Add("$(A) $$(A) $(B $(A)$")
	f.Add("$($(A))")
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "$") {
			_ = Expand(s, func(name string) (string, bool) { return "x", name == "A" })
		} else if got := Expand(s, func(string) (string, bool) { return "", true }); got != s {
			t.Errorf("%q became %q", s, got)
		}
	})
}
