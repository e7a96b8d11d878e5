// Package fields finds the fields of k8s.io/api that the API takes and that
// nothing in the product reads or validates: what a user sets there has no effect
// but to be stored and shown. testdata/unread.txt lists them, each with the
// reason; a field that is unread and not in the list fails the test.
package fields

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"sagong/kinds"
)

const (
	apiPath = "k8s.io/api/"
	tags    = "netgo,osusergo,grpcnotrace,kustomize_disable_go_plugin_support"
)

// TestUnread compares with the list.
func TestUnread(t *testing.T) {
	served := servedFields()
	used := usedFields(t)
	listed := map[string]string{}
	f, err := os.Open("testdata/unread.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		name, reason, _ := strings.Cut(strings.TrimSpace(in.Text()), " ")
		switch reason = strings.TrimSpace(reason); {
		case name == "" || name[0] == '#':
		case reason == "":
			t.Errorf("%s is listed without a reason", name)
		case !served[name]:
			t.Errorf("%s is listed and no field of what is served", name)
		case used[name]:
			t.Logf("%s is listed as unread and is read: take it off the list", name)
		default:
			listed[name] = reason
		}
	}
	unread := 0
	for _, name := range slices.Sorted(maps.Keys(served)) {
		if used[name] {
			continue
		}
		unread++
		if listed[name] == "" {
			t.Errorf("nothing reads or validates %s: have it read, or refused, or list it with the reason", name)
		}
	}
	t.Logf("%d fields are served, %d of them unread", len(served), unread)
}

// servedFields are the fields of all structs of k8s.io/api that make up the kinds
// served, as core/v1.PodSpec.NodeName.
func servedFields() map[string]bool {
	out := map[string]bool{}
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || seen[t] || !strings.HasPrefix(t.PkgPath(), apiPath) {
			return
		}
		seen[t] = true
		for i := range t.NumField() {
			f := t.Field(i)
			if !f.IsExported() || f.Name == "TypeMeta" || f.Name == "ObjectMeta" || f.Name == "ListMeta" {
				continue
			}
			if !f.Anonymous {
				out[name(t.PkgPath(), t.Name(), f.Name)] = true
			}
			walk(f.Type)
		}
	}
	for _, d := range kinds.All() {
		walk(reflect.TypeOf(d.New()))
		for _, v := range d.Served {
			walk(reflect.TypeOf(v.New()))
		}
	}
	return out
}

func name(pkg, typ, field string) string {
	return strings.TrimPrefix(pkg, apiPath) + "." + typ + "." + field
}

// listing is what go list says of a package.
type listing struct {
	ImportPath, Dir, Export string
	GoFiles, CgoFiles       []string
	DepOnly                 bool
}

// usedFields are the fields that the product's packages read. A field that is
// set counts as used outside of kinds: controllers and node agents report by
// setting it. In kinds it is given its default, which uses nothing.
func usedFields(t *testing.T) map[string]bool {
	cmd := exec.Command("go", "list", "-e", "-export", "-deps", "-tags", tags, "-json=ImportPath,Dir,Export,GoFiles,CgoFiles,DepOnly", "sagong/...")
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	exports := map[string]string{}
	var ours []listing
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var l listing
		if err := d.Decode(&l); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		exports[l.ImportPath] = l.Export
		if !l.DepOnly && !strings.HasPrefix(l.ImportPath, "sagong/test/") {
			ours = append(ours, l)
		}
	}
	if len(ours) < 50 {
		t.Fatalf("found %d packages only", len(ours))
	}
	work := make(chan listing)
	var mu sync.Mutex
	used := map[string]bool{}
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			files := token.NewFileSet()
			// An importer is not for several goroutines; types are compared by name.
			imports := importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) {
				if exports[path] == "" {
					return nil, fmt.Errorf("no export data of %s", path)
				}
				return os.Open(exports[path])
			})
			for l := range work {
				found, err := readBy(l, files, imports)
				if err != nil {
					t.Errorf("%s: %v", l.ImportPath, err)
				}
				mu.Lock()
				maps.Copy(used, found)
				mu.Unlock()
			}
		})
	}
	for _, l := range ours {
		work <- l
	}
	close(work)
	all.Wait()
	return used
}

// readBy checks one package and collects the fields it uses.
func readBy(l listing, files *token.FileSet, imports types.Importer) (map[string]bool, error) {
	var syntax []*ast.File
	for _, file := range append(slices.Clone(l.GoFiles), l.CgoFiles...) {
		f, err := parser.ParseFile(files, filepath.Join(l.Dir, file), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		syntax = append(syntax, f)
	}
	info := &types.Info{Selections: map[*ast.SelectorExpr]*types.Selection{}, Types: map[ast.Expr]types.TypeAndValue{}}
	config := types.Config{Importer: imports, FakeImportC: true}
	if _, err := config.Check(l.ImportPath, files, syntax, info); err != nil {
		return nil, err
	}
	used := map[string]bool{}
	inKinds := strings.HasPrefix(l.ImportPath, "sagong/kinds")
	for _, f := range syntax {
		written := map[*ast.SelectorExpr]bool{} // set as a whole, not read
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for _, left := range n.Lhs {
					if sel, ok := left.(*ast.SelectorExpr); ok && n.Tok == token.ASSIGN {
						written[sel] = true
					}
				}
			case *ast.CompositeLit:
				if !inKinds {
					literal(used, n, info.Types[n].Type)
				}
			case *ast.SelectorExpr:
				if s := info.Selections[n]; s != nil && !(inKinds && written[n]) {
					selection(used, s)
				}
			}
			return true
		})
	}
	return used, nil
}

// literal marks the fields that a composite literal sets.
func literal(used map[string]bool, c *ast.CompositeLit, t types.Type) {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	n, ok := types.Unalias(t).(*types.Named)
	if !ok {
		return
	}
	for _, e := range c.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok {
				mark(used, n, key.Name)
			}
		}
	}
}

// selection marks the field that is selected, and the embedded ones on the way.
func selection(used map[string]bool, s *types.Selection) {
	t := s.Recv()
	path := s.Index()
	if s.Kind() != types.FieldVal {
		path = path[:len(path)-1] // a method
	}
	for _, i := range path {
		if p, ok := t.Underlying().(*types.Pointer); ok {
			t = p.Elem()
		}
		st, ok := t.Underlying().(*types.Struct)
		if !ok {
			return
		}
		if n, ok := types.Unalias(t).(*types.Named); ok {
			mark(used, n, st.Field(i).Name())
		}
		t = st.Field(i).Type()
	}
}

func mark(used map[string]bool, n *types.Named, field string) {
	if p := n.Obj().Pkg(); p != nil && strings.HasPrefix(p.Path(), apiPath) {
		used[name(p.Path(), n.Obj().Name(), field)] = true
	}
}
