package compose

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	flagz "k8s.io/apiserver/pkg/server/flagz/api/v1beta1"
	statusz "k8s.io/apiserver/pkg/server/statusz/api/v1beta1"
)

// TestPages: /flagz and /statusz are text, and objects of config.k8s.io for who
// asks for those and nothing else.
func TestPages(t *testing.T) {
	s := openServer(t, nil)
	started := time.Now().Add(-3661 * time.Second)
	pages := map[string]zPage{"flagz": s.flagz(), "statusz": s.statusz(started)}
	ask := func(page, accept string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/"+page, nil)
		if accept != "" {
			r.Header.Set("Accept", accept)
		}
		w := httptest.NewRecorder()
		pages[page].ServeHTTP(w, r)
		return w
	}
	const text = "text/plain; charset=utf-8"
	for _, tc := range []struct{ accept, kind, content, begins string }{
		{"", "", text, "\napiserver "}, {"*/*", "", text, "\napiserver "}, {"text/*", "", text, "\napiserver "}, {"text/html, text/plain;q=0.5", "", text, "\napiserver "},
		{"application/json;g=config.k8s.io;v=v1beta1;as=KIND", "v1beta1", "application/json;g=config.k8s.io;v=v1beta1;as=KIND", `{"kind":"KIND","apiVersion":"config.k8s.io/v1beta1","metadata":{"name":"apiserver"},`},
		{"application/json;g=config.k8s.io;v=v1beta1;as=KIND;pretty=1", "v1beta1", "application/json;g=config.k8s.io;v=v1beta1;as=KIND", "{\n  \"kind\": \"KIND\",\n"},
		{"application/*;g=config.k8s.io;v=v1alpha1;as=KIND", "v1alpha1", "application/json;g=config.k8s.io;v=v1alpha1;as=KIND", `{"kind":"KIND","apiVersion":"config.k8s.io/v1alpha1",`},
		{"application/yaml;g=config.k8s.io;v=v1beta1;as=KIND", "v1beta1", "application/yaml;g=config.k8s.io;v=v1beta1;as=KIND", "apiVersion: config.k8s.io/v1beta1\n"},
		{"application/cbor;g=config.k8s.io;v=v1beta1;as=KIND", "v1beta1", "application/cbor;g=config.k8s.io;v=v1beta1;as=KIND", "\xd9\xd9\xf7"},
		{"application/json", "none", "", ""}, {"application/json;g=config.k8s.io;v=v1;as=KIND", "none", "", ""}, {"application/json;g=config.k8s.io;v=v1beta1;as=Other", "none", "", ""},
		{"application/vnd.kubernetes.protobuf;g=config.k8s.io;v=v1beta1;as=KIND", "none", "", ""}, {"text/plain;as=KIND", "none", "", ""}, {"text/html", "none", "", ""},
		{"application/json;g=config.k8s.io;v=v1beta1;as=KIND;stream=watch", "none", "", ""},
	} {
		for page, kind := range map[string]string{"flagz": "Flagz", "statusz": "Statusz"} {
			named := strings.NewReplacer("KIND", kind)
			w := ask(page, named.Replace(tc.accept))
			if tc.kind == "none" {
				if w.Code != 406 || !strings.Contains(w.Body.String(), "only the following media types are accepted: application/json, application/yaml, text/plain, application/cbor") {
					t.Errorf("%s as %q: %d %.300s", page, tc.accept, w.Code, w.Body)
				}
				continue
			}
			if got := w.Header().Get("Content-Type"); w.Code != 200 || got != named.Replace(tc.content) || !strings.HasPrefix(w.Body.String(), named.Replace(tc.begins)) {
				t.Errorf("%s as %q: %d %s %.300q", page, tc.accept, w.Code, got, w.Body)
			}
			if warned := strings.Contains(w.Header().Get("Warning"), "299 - \"This version of the "+page+" endpoint is deprecated."); warned != (tc.kind == "v1alpha1") {
				t.Errorf("%s as %q: warning %q", page, tc.accept, w.Header().Get("Warning"))
			}
		}
	}
	var f flagz.Flagz
	if err := json.Unmarshal(ask("flagz", "application/json;g=config.k8s.io;v=v1beta1;as=Flagz").Body.Bytes(), &f); err != nil || f.Flags["node-name"] != "n" {
		t.Errorf("%v, %v", err, f.Flags)
	}
	if b := ask("flagz", "").Body.String(); !strings.Contains(b, "\nnode-name=n\n") {
		t.Error(b)
	}
	var z statusz.Statusz
	if err := json.Unmarshal(ask("statusz", "application/json;g=config.k8s.io;v=v1beta1;as=Statusz").Body.Bytes(), &z); err != nil ||
		z.StartTime.Unix() != started.Unix() || z.UptimeSeconds < 3661 || !strings.HasPrefix(z.BinaryVersion, "1.37") || z.EmulationVersion != "1.37" || !strings.HasPrefix(z.GoVersion, "go1") {
		t.Errorf("%v, %+v", err, z)
	}
	paths := strings.Join(z.Paths, " ")
	if !strings.Contains(paths, "/debug") || !strings.Contains(paths, "/livez /metrics /readyz") || strings.Contains(paths, "open") || strings.Count(paths, "/metrics") != 1 {
		t.Error(paths)
	}
	if b := ask("statusz", "").Body.String(); !strings.Contains(b, "\nUp: 1 hr 01 min ") || !strings.Contains(b, "\nPaths: "+paths+"\n") {
		t.Error(b)
	}
}
