package storagesuite

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

// TestComplete fails when the suite has a test that suite_test.go neither runs
// nor says why not.
func TestComplete(t *testing.T) {
	ours, err := os.ReadFile("suite_test.go")
	if err != nil {
		t.Fatal(err)
	}
	p, err := build.Import("k8s.io/apiserver/pkg/storage/testing", ".", 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(token.NewFileSet(), p.Dir+"/"+name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Run") || strings.HasPrefix(fn.Name.Name, "RunBenchmark") {
				continue
			}
			found++
			if !mentions(string(ours), fn.Name.Name) {
				t.Errorf("%s is neither run nor explained", fn.Name.Name)
			}
		}
	}
	if found < 50 {
		t.Errorf("found %d tests only", found)
	}
}

// mentions finds a whole name.
func mentions(text, name string) bool {
	for {
		at := strings.Index(text, name)
		if at < 0 {
			return false
		}
		text = text[at+len(name):]
		if text == "" || !token.IsIdentifier("x"+text[:1]) {
			return true
		}
	}
}
