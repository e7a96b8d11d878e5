package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Health selects among /livez and /readyz; /healthz shows all.
type Health int

// The paths a check belongs to.
const (
	Livez Health = 1 << iota
	Readyz
	AllHealth = Livez | Readyz
)

// Check is one named condition of health. Check nil is always fine.
type Check struct {
	Name  string
	For   Health
	Check func(context.Context) error
}

type health struct {
	mu     sync.RWMutex
	checks []Check
}

// AddCheck adds a condition of health.
func (s *Server) AddCheck(c Check) {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	s.health.checks = append(s.health.checks, c)
}

func isHealth(path string) bool {
	for _, p := range []string{"/healthz", "/livez", "/readyz"} {
		if path == p || strings.HasPrefix(path, p+"/") {
			return true
		}
	}
	return false
}

// checksOf are the conditions that a path of health shows: healthz, livez or readyz.
func (s *Server) checksOf(name string) []Check {
	want := AllHealth
	switch name {
	case "livez":
		want = Livez
	case "readyz":
		want = Readyz
	}
	s.health.mu.RLock()
	checks := slices.Clone(s.health.checks)
	s.health.mu.RUnlock()
	checks = append(checks, Check{Name: "shutdown", For: Readyz, Check: func(context.Context) error {
		if s.closing.Err() != nil {
			return fmt.Errorf("process is shutting down")
		}
		return nil
	}})
	return slices.DeleteFunc(checks, func(c Check) bool { return c.For&want == 0 })
}

// healthPaths are those of the single conditions.
func (s *Server) healthPaths() (out []string) {
	for _, name := range []string{"healthz", "livez", "readyz"} {
		for _, c := range s.checksOf(name) {
			out = append(out, "/"+name+"/"+c.Name)
		}
	}
	return out
}

// serveHealth answers "ok", or with ?verbose or on failure a line a check. A
// path below names one check.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	name, only, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	checks := s.checksOf(name)
	query := r.URL.Query()
	excluded := query["exclude"]
	var text strings.Builder
	failed, known := false, false
	for _, c := range checks {
		if only != "" && c.Name != only {
			continue
		}
		known = true
		if slices.Contains(excluded, c.Name) {
			fmt.Fprintf(&text, "[+]%s excluded: ok\n", c.Name)
			continue
		}
		var err error
		if c.Check != nil {
			err = c.Check(r.Context())
		}
		if m := s.Metrics; m != nil {
			m.Checked(name, c.Name, err == nil)
		}
		if err != nil {
			failed = true
			s.log.Warn("health check failed", "check", c.Name, "err", err)
			fmt.Fprintf(&text, "[-]%s failed: reason withheld\n", c.Name)
			continue
		}
		fmt.Fprintf(&text, "[+]%s ok\n", c.Name)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if only == "" { // errors say so by themselves
		w.Header().Set("X-Content-Type-Options", "nosniff")
	}
	_, verbose := query["verbose"]
	switch {
	case !known:
		http.Error(w, "404 page not found", http.StatusNotFound)
	case failed:
		http.Error(w, text.String()+name+" check failed", http.StatusInternalServerError)
	case verbose && only == "":
		fmt.Fprintf(w, "%s%s check passed\n", text.String(), name)
	default:
		fmt.Fprint(w, "ok")
	}
}
