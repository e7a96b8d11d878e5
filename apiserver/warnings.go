package apiserver

import (
	"net/http"
	"unicode/utf8"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

const (
	maxWarnings = 4 << 10 // of all warnings of a response, in runes
	maxWarning  = 256     // of each, once they are more together
)

// warnings are those of one response. Each is told once; when they become too
// many, all are cut short, and what comes after is left out.
type warnings struct {
	said    []string // in order, as they came
	known   map[string]bool
	written int // runes
	cutting bool
}

// add puts a warning into the header. What a header cannot hold is dropped.
func (w *warnings) add(h http.Header, text string) {
	if text == "" || w.cutting && w.written >= maxWarnings || w.known[text] {
		return
	}
	if w.known == nil {
		w.known = map[string]bool{}
	}
	w.known[text] = true
	w.said = append(w.said, text)
	if w.cutting || w.written+utf8.RuneCountInString(text) <= maxWarnings {
		w.write(h, text)
		return
	}
	w.cutting, w.written = true, 0
	h.Del("Warning")
	for _, t := range w.said {
		w.write(h, t)
	}
}

func (w *warnings) write(h http.Header, text string) {
	n := utf8.RuneCountInString(text)
	if w.cutting && n > maxWarning {
		text, n = string([]rune(text)[:maxWarning]), maxWarning
	}
	if v, err := utilnet.NewWarningHeader(299, "", text); err == nil {
		w.written += n
		h.Add("Warning", v)
	}
}
