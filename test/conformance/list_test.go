package conformance

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestListNamesTestsThatExist holds list.txt to its word: each line
//
//	[sig-apps] Job should delete a job [Conformance]: path/to/file_test.go TestName
//
// names a test of the suite and the one here that stands for it: a Go test by
// its function, or a script by its file alone.
func TestListNamesTestsThatExist(t *testing.T) {
	f, err := os.Open("list.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line := regexp.MustCompile(`^(\[sig-[a-z-]+\] .+ \[Conformance\]): (\S+)(?: (Test\w+))?$`)
	seen, files := map[string]bool{}, map[string]string{}
	n := 0
	for sc := bufio.NewScanner(f); sc.Scan(); {
		n++
		if text := sc.Text(); text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		m := line.FindStringSubmatch(sc.Text())
		if m == nil {
			t.Errorf("line %d is not \"[sig-...] codename [Conformance]: file TestName\": %s", n, sc.Text())
			continue
		}
		codename, path, name := m[1], m[2], m[3]
		if seen[codename] {
			t.Errorf("line %d: %s is listed twice", n, codename)
		}
		seen[codename] = true
		body, ok := files[path]
		if !ok {
			b, err := os.ReadFile(filepath.Join("..", "..", path))
			if err != nil {
				t.Errorf("line %d: %v", n, err)
				continue
			}
			body = string(b)
			files[path] = body
		}
		// The test says which it stands for; a name may be put together of two parts.
		words := strings.Fields(codename)
		last := strings.Join(words[len(words)-4:], " ")
		switch {
		case strings.HasSuffix(path, ".txtar"):
		case !strings.Contains(body, last):
			t.Errorf("line %d: %s does not name \"%s\"", n, path, last)
		case name == "" || !strings.Contains(body, "\nfunc "+name+"("):
			t.Errorf("line %d: %s has no test %s", n, path, name)
		}
	}
	// The suite of 1.36 has as many of these; of the others, those that need no
	// real container or disk are few.
	for sig, want := range map[string]int{"api-machinery": 99, "apps": 60, "architecture": 1, "auth": 10, "cli": 17, "instrumentation": 4, "scheduling": 11} {
		have := 0
		for codename := range seen {
			if strings.HasPrefix(codename, "[sig-"+sig+"] ") {
				have++
			}
		}
		if have != want {
			t.Errorf("%d tests of sig-%s are listed, want %d", have, sig, want)
		}
	}
}
