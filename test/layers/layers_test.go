// Package layers enforces the house: which package may import which.
package layers

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// house is layers.txt: ranks by path, and the exceptions.
type house struct {
	ranks   map[string]int
	allowed map[string]string // "from -> to": reason
	rooms   []string          // top-level rooms that never import one another
	used    map[string]bool
}

func load(t *testing.T) *house {
	t.Helper()
	f, err := os.Open("layers.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := &house{ranks: map[string]int{}, allowed: map[string]string{}, used: map[string]bool{}}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line, comment, _ := strings.Cut(sc.Text(), "#")
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case fields[0] == "apart":
			h.rooms = append(h.rooms, fields[1:]...)
		case fields[0] == "allow" && len(fields) == 4 && fields[2] == "->":
			if strings.TrimSpace(comment) == "" {
				t.Errorf("layers.txt: %q has no reason", line)
			}
			h.allowed[fields[1]+" -> "+fields[3]] = comment
		case len(fields) == 2:
			rank, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatalf("layers.txt: %q: %v", line, err)
			}
			h.ranks[fields[0]] = rank
		default:
			t.Fatalf("layers.txt: cannot read %q", line)
		}
	}
	return h
}

// rank is that of the longest listed prefix of a package's path.
func (h *house) rank(pkg string) (int, bool) {
	for p := pkg; ; {
		if r, ok := h.ranks[p]; ok {
			h.used[p] = true
			return r, true
		}
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			return 0, false
		}
		p = p[:i]
	}
}

func (h *house) room(pkg string) string {
	top, _, _ := strings.Cut(pkg, "/")
	if slices.Contains(h.rooms, top) {
		return top
	}
	return ""
}

func TestPackagesImportLowerRanksOnly(t *testing.T) {
	h := load(t)
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports", "sagong/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	usedExceptions := map[string]bool{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		from := strings.TrimPrefix(p.ImportPath, "sagong/")
		rank, ok := h.rank(from)
		if !ok {
			t.Errorf("%s has no rank in layers.txt: where in the house does it stand?", from)
			continue
		}
		for _, imp := range p.Imports {
			if strings.HasPrefix(imp, "k8s.io/kubernetes") {
				t.Errorf("%s imports %s: the packages of Kubernetes itself are not for the product", from, imp)
			}
			to, own := strings.CutPrefix(imp, "sagong/")
			if !own {
				continue
			}
			if h.allowed[from+" -> "+to] != "" {
				usedExceptions[from+" -> "+to] = true
				continue
			}
			if r, ok := h.rank(to); ok && r >= rank {
				t.Errorf("%s (rank %d) imports %s (rank %d)", from, rank, to, r)
			}
			if a, b := h.room(from), h.room(to); a != "" && b != "" && a != b {
				t.Errorf("%s imports %s: these rooms meet only through client", from, to)
			}
		}
	}
	for e := range h.allowed {
		if !usedExceptions[e] {
			t.Errorf("layers.txt allows %s, which nothing does any more", e)
		}
	}
	for p := range h.ranks {
		if !h.used[p] {
			t.Errorf("layers.txt ranks %s, which does not exist", p)
		}
	}
}
