package apiserver_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew from what the server answers")

var (
	uidPattern  = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	timePattern = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
	agePattern  = regexp.MustCompile(`"\d+y(\d+d)?"`) // of what was created in 2023
	tokenPat    = regexp.MustCompile(`("continue": ")[A-Za-z0-9_-]+"`)
	genPattern  = regexp.MustCompile(`gen-[bcdfghjklmnpqrstvwxz2456789]{5}`)
)

// normal makes a body the same every time: indented, without what is random.
func normal(body string) string {
	var out bytes.Buffer
	if json.Indent(&out, []byte(strings.TrimSpace(body)), "", "  ") == nil {
		body = out.String()
	}
	body = uidPattern.ReplaceAllString(body, "UID")
	body = timePattern.ReplaceAllString(body, "TIME")
	body = agePattern.ReplaceAllString(body, `"AGE"`)
	body = tokenPat.ReplaceAllString(body, `${1}TOKEN"`)
	body = genPattern.ReplaceAllString(body, "gen-XXXXX")
	return strings.TrimSpace(body)
}

// TestGolden plays the requests in testdata/*.txt against a fresh server each.
// A step is a request line, header lines, an optional body, "----", and the
// answer's code and body. $TOKEN in a path is the last continue token given,
// $RV the last resourceVersion.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			// The order of managed fields depends on their times.
			c := startAt(t, func() time.Time { return time.Unix(1_700_000_000, 0) })
			token, rv := "", ""
			var out strings.Builder
			for i, step := range strings.Split(string(data), "\n====\n") {
				ask, want, _ := strings.Cut(step, "\n----\n")
				lines := strings.Split(strings.TrimSpace(ask), "\n")
				var comment []string
				for len(lines) > 0 && strings.HasPrefix(lines[0], "#") {
					comment, lines = append(comment, lines[0]), lines[1:]
				}
				method, path, ok := strings.Cut(lines[0], " ")
				if !ok {
					t.Fatalf("step %d begins with %q", i, lines[0])
				}
				var headers []string
				rest := lines[1:]
				for len(rest) > 0 && rest[0] != "" {
					k, v, ok := strings.Cut(rest[0], ": ")
					if !ok || strings.ContainsAny(k, "{[ ") {
						break
					}
					headers, rest = append(headers, k, v), rest[1:]
				}
				body := strings.TrimSpace(strings.Join(rest, "\n"))
				replace := strings.NewReplacer("$TOKEN", token, "$RV", rv)
				code, answer, h := c.full(method, replace.Replace(path), replace.Replace(body), headers...)
				var meta struct {
					Metadata struct {
						Continue        string `json:"continue"`
						ResourceVersion string `json:"resourceVersion"`
					} `json:"metadata"`
				}
				if json.Unmarshal([]byte(answer), &meta) == nil {
					if meta.Metadata.Continue != "" {
						token = meta.Metadata.Continue
					}
					if meta.Metadata.ResourceVersion != "" {
						rv = meta.Metadata.ResourceVersion
					}
				}
				got := fmt.Sprintf("%d %s\n", code, h.Get("Content-Type"))
				for _, w := range h.Values("Warning") {
					got += "Warning: " + w + "\n"
				}
				if r := h.Get("Retry-After"); r != "" {
					got += "Retry-After: " + r + "\n"
				}
				got += normal(answer)
				if i > 0 {
					out.WriteString("\n====\n")
				}
				for _, l := range comment {
					out.WriteString(l + "\n")
				}
				out.WriteString(strings.TrimSpace(strings.Join(lines, "\n")) + "\n----\n" + strings.TrimSpace(got))
				if !*rewrite && strings.TrimSpace(got) != strings.TrimSpace(want) {
					t.Errorf("step %d: %s\ngot:\n%s\nwant:\n%s", i, lines[0], got, strings.TrimSpace(want))
				}
			}
			out.WriteString("\n")
			if *rewrite {
				if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
