package compose

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"sagong/config"
)

// zWarning stands above pages that are for people.
const zWarning = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n\n"

// servePages adds the pages by which somebody who may see them looks into the
// server: profiles, settings and state.
func (s *server) servePages(started time.Time) {
	s.api.Handle("/debug/pprof/", http.HandlerFunc(pprof.Index))
	s.api.Handle("/debug/pprof/cmdline", http.HandlerFunc(pprof.Cmdline))
	s.api.Handle("/debug/pprof/profile", http.HandlerFunc(pprof.Profile))
	s.api.Handle("/debug/pprof/symbol", http.HandlerFunc(pprof.Symbol))
	s.api.Handle("/debug/pprof/trace", http.HandlerFunc(pprof.Trace))
	text := func(path, title string, body func(b *strings.Builder)) {
		s.api.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			var b strings.Builder
			fmt.Fprintf(&b, "\nkube-apiserver %s\n%s", title, zWarning)
			body(&b)
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			_, _ = w.Write([]byte(b.String()))
		}))
	}
	text("/flagz", "flagz", func(b *strings.Builder) {
		for _, x := range config.Settings() {
			fmt.Fprintf(b, "%s=%s\n", x.Flag, x.Value(s.cfg))
		}
	})
	text("/statusz", "statusz", func(b *strings.Builder) {
		up := time.Since(started).Truncate(time.Second)
		v := versionInfo()
		fmt.Fprintf(b, "Started: %s\nUp: %d hr %02d min %02d sec\nGo version: %s\nBinary version: %s\nEmulation version: %s.%s\nPaths: %s\n",
			started.UTC().Format(time.UnixDate), int(up.Hours()), int(up.Minutes())%60, int(up.Seconds())%60, v.GoVersion,
			strings.TrimPrefix(v.GitVersion, "v"), v.Major, v.Minor, strings.Join(s.api.Paths(), " "))
	})
	s.api.Handle("/configz", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		all := map[string]string{}
		for _, x := range config.Settings() {
			all[x.Key] = x.Value(s.cfg)
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"sagong": all})
	}))
}
