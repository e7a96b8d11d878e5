package compose

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"time"

	"github.com/munnerz/goautoneg"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	flagz "k8s.io/apiserver/pkg/server/flagz/api/v1beta1"
	statusz "k8s.io/apiserver/pkg/server/statusz/api/v1beta1"
	"sigs.k8s.io/yaml"

	"sagong/apiserver"
	"sagong/config"
	"sagong/object"
)

// zWarning stands above pages that are for people.
const zWarning = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n"

// zName is the component that the pages are of.
const zName = "apiserver"

// servePages adds the pages by which somebody who may see them looks into the
// server: profiles, settings and state.
func (s *server) servePages(started time.Time) {
	s.api.Handle("/debug/pprof/", http.HandlerFunc(pprof.Index))
	s.api.Handle("/debug/pprof/cmdline", http.HandlerFunc(pprof.Cmdline))
	s.api.Handle("/debug/pprof/profile", http.HandlerFunc(pprof.Profile))
	s.api.Handle("/debug/pprof/symbol", http.HandlerFunc(pprof.Symbol))
	s.api.Handle("/debug/pprof/trace", http.HandlerFunc(pprof.Trace))
	s.api.Handle("/flagz", s.flagz())
	s.api.Handle("/statusz", s.statusz(started))
	s.api.Handle("/configz", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		all := map[string]string{}
		for _, x := range config.Settings() {
			all[x.Key] = x.Value(s.cfg)
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"sagong": all})
	}))
}

// flagz shows the settings.
func (s *server) flagz() zPage {
	return zPage{kind: "Flagz", text: func(b *strings.Builder) {
		for _, x := range config.Settings() {
			fmt.Fprintf(b, "%s=%s\n", x.Flag, x.Value(s.cfg))
		}
	}, object: func(m metav1.TypeMeta) runtime.Object {
		f := &flagz.Flagz{TypeMeta: m, ObjectMeta: metav1.ObjectMeta{Name: zName}, Flags: map[string]string{}}
		for _, x := range config.Settings() {
			f.Flags[x.Flag] = x.Value(s.cfg)
		}
		return f
	}}
}

// statusz shows since when which version runs.
func (s *server) statusz(started time.Time) zPage {
	status := func(m metav1.TypeMeta) *statusz.Statusz {
		v := versionInfo()
		return &statusz.Statusz{
			TypeMeta: m, ObjectMeta: metav1.ObjectMeta{Name: zName},
			StartTime: metav1.NewTime(started), UptimeSeconds: int64(time.Since(started).Seconds()), GoVersion: v.GoVersion,
			BinaryVersion: strings.TrimPrefix(v.GitVersion, "v"), EmulationVersion: v.EmulationMajor + "." + v.EmulationMinor, Paths: zPaths(s.api.Paths()),
		}
	}
	return zPage{kind: "Statusz", text: func(b *strings.Builder) {
		z := status(metav1.TypeMeta{})
		up := z.UptimeSeconds
		fmt.Fprintf(b, "\nStarted: %s\nUp: %d hr %02d min %02d sec\nGo version: %s\nBinary version: %s\nEmulation version: %s\nPaths: %s\n",
			started.UTC().Format(time.UnixDate), up/3600, up/60%60, up%60, z.GoVersion, z.BinaryVersion, z.EmulationVersion, strings.Join(z.Paths, " "))
	}, object: func(m metav1.TypeMeta) runtime.Object { return status(m) }}
}

// zPaths are the first parts of paths, in order, but for those that are the API's
// own and no help in looking into it.
func zPaths(all []string) []string {
	var first []string
	for _, p := range all {
		p, _, _ = strings.Cut(strings.TrimPrefix(p, "/"), "/")
		if p != "" && !slices.Contains([]string{"api", "apis", "openid", "openapi", ".well-known"}, p) {
			first = append(first, "/"+p)
		}
	}
	slices.Sort(first)
	return slices.Compact(first)
}

// zPage is text for people, and an object of config.k8s.io for who asks for one.
type zPage struct {
	kind   string
	text   func(*strings.Builder)
	object func(metav1.TypeMeta) runtime.Object
}

// zMedia are the forms of pages, in the order in which a wildcard chooses.
var zMedia = []string{runtime.ContentTypeJSON, runtime.ContentTypeYAML, "text/plain", runtime.ContentTypeCBOR}

// accepted returns the form of what is asked for, and for an object its version.
func (p zPage) accepted(r *http.Request) (media, version string, pretty, ok bool) {
	header := r.Header.Get("Accept")
	if strings.TrimSpace(header) == "" {
		return "text/plain", "", false, true
	}
	for _, clause := range goautoneg.ParseAccept(header) {
		for _, m := range zMedia {
			kind, sub, _ := strings.Cut(m, "/")
			if clause.Type != "*" && clause.Type != kind || clause.SubType != "*" && clause.SubType != sub || clause.Type == "*" && clause.SubType != "*" {
				continue
			}
			given := clause.Params
			if given["stream"] != "" || given["sv"] != "" {
				continue
			}
			kinds := slices.ContainsFunc([]string{"as", "g", "v"}, func(name string) bool { _, is := given[name]; return is })
			switch v := given["v"]; {
			case m == "text/plain" && !kinds:
				return m, "", false, true
			case m != "text/plain" && given["as"] == p.kind && given["g"] == flagz.GroupName && (v == "v1alpha1" || v == "v1beta1"):
				return m, v, given["pretty"] == "1" || apiserver.WantsPretty(r), true
			}
		}
	}
	return "", "", false, false
}

// ServeHTTP implements http.Handler.
func (p zPage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	media, version, pretty, ok := p.accepted(r)
	if !ok {
		p.refuse(w)
		return
	}
	h := w.Header()
	if media == "text/plain" {
		var b strings.Builder
		fmt.Fprintf(&b, "\n%s %s\n%s", zName, strings.ToLower(p.kind), zWarning)
		p.text(&b)
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write([]byte(b.String()))
		return
	}
	gv := schema.GroupVersion{Group: flagz.GroupName, Version: version}
	if version == "v1alpha1" {
		h.Set("Warning", fmt.Sprintf(`299 - "This version of the %s endpoint is deprecated. Please use a newer version."`, strings.ToLower(p.kind)))
	}
	o := p.object(metav1.TypeMeta{Kind: p.kind, APIVersion: gv.String()})
	var b []byte
	var err error
	if media == runtime.ContentTypeCBOR {
		b, err = object.AppendCBOR(nil, o)
	} else if b, err = json.Marshal(o); err == nil {
		switch {
		case media == runtime.ContentTypeYAML:
			b, err = yaml.JSONToYAML(b)
		case pretty:
			var out bytes.Buffer
			_ = json.Indent(&out, b, "", "  ")
			b = out.Bytes()
		default:
			b = append(b, '\n')
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h.Set("Content-Type", fmt.Sprintf("%s;g=%s;v=%s;as=%s", media, gv.Group, gv.Version, p.kind))
	_, _ = w.Write(b)
}

func (zPage) refuse(w http.ResponseWriter) {
	b, _ := json.MarshalIndent(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: " + strings.Join(zMedia, ", "),
	}, "", "  ")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotAcceptable)
	_, _ = w.Write(b)
}
