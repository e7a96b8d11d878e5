package apiserver

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestWarnings(t *testing.T) {
	h, w := http.Header{}, warnings{}
	for _, text := range []string{"one", "", "one", "two\nlines", "ctl\x01", `a "quoted" \ one`, "w\u00fc"} {
		w.add(h, text)
	}
	if got, want := h.Values("Warning"), []string{`299 - "one"`, `299 - "a \"quoted\" \\ one"`, "299 - \"w\u00fc\""}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	// More than 4,096 runes: each is cut to 256, then what comes is left out.
	h, w = http.Header{}, warnings{}
	for i := range 60 {
		w.add(h, fmt.Sprintf("%03d", i)+strings.Repeat("z", 297))
	}
	got := h.Values("Warning")
	if len(got) != 16 || len(got[0]) != len(`299 - ""`)+256 || !strings.HasPrefix(got[15], `299 - "015z`) {
		t.Errorf("%d warnings, %q to %q", len(got), got[0], got[len(got)-1])
	}
}
