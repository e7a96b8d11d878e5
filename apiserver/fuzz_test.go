package apiserver

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"sagong/apiserver/resource"
	"sagong/kinds"
	"sagong/object"
	"sagong/store"
)

func TestSplit(t *testing.T) {
	for _, test := range []struct {
		method, path string
		want         Info
	}{
		{"GET", "/api", Info{Discovery: true, Verb: "get"}},
		{"GET", "/apis/apps", Info{Discovery: true, Verb: "get"}},
		{"GET", "/apis/apps/v1", Info{Discovery: true, Verb: "get"}},
		{"GET", "/metrics", Info{Verb: "get"}},
		{"GET", "/api/v1/pods", Info{Resource: true, Verb: "list", Plural: "pods"}},
		{"GET", "/api/v1/pods?watch=true", Info{Resource: true, Verb: "watch", Plural: "pods"}},
		{"GET", "/api/v1/watch/pods", Info{Resource: true, Verb: "watch", Plural: "pods", Watch: true}},
		{"GET", "/api/v1/nodes/n/proxy/a/b%20c?d=e", Info{Resource: true, Verb: "get", Plural: "nodes", Name: "n", Subresource: "proxy", Rest: "/a/b%20c"}},
		{"POST", "/api/v1/namespaces/x/pods/p/exec", Info{Resource: true, Verb: "create", Namespace: "x", Plural: "pods", Name: "p", Subresource: "exec"}},
		{"GET", "/api/v1/namespaces/x", Info{Resource: true, Verb: "get", Namespace: "x", Plural: "namespaces", Name: "x"}},
		{"PUT", "/api/v1/namespaces/x/finalize", Info{Resource: true, Verb: "update", Namespace: "x", Plural: "namespaces", Name: "x", Subresource: "finalize"}},
		{"GET", "/api/v1/namespaces", Info{Resource: true, Verb: "list", Plural: "namespaces"}},
		{"DELETE", "/apis/apps/v1/namespaces/x/deployments", Info{Resource: true, Verb: "deletecollection", Namespace: "x", Plural: "deployments"}},
		{"GET", "/api/v1/namespaces/x/pods?fieldSelector=metadata.name%3Dp", Info{Resource: true, Verb: "list", Namespace: "x", Plural: "pods", Name: "p"}},
		{"GET", "/api/v1/namespaces/x/services/http:s:80/proxy", Info{Resource: true, Verb: "get", Namespace: "x", Plural: "services", Name: "http:s:80", Subresource: "proxy"}},
	} {
		u, err := url.Parse(test.path)
		if err != nil {
			t.Fatal(err)
		}
		got := split(test.method, u)
		got.Path, got.GV = "", test.want.GV
		if got != test.want {
			t.Errorf("%s %s:\ngot  %+v\nwant %+v", test.method, test.path, got, test.want)
		}
	}
}

// FuzzRequest throws anything at the whole path: nothing may panic, and every
// answer has a code.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/api/v1/namespaces/default/pods?limit=3&continue=eyJ2Ijoi", "", "", "application/json;as=Table;v=v1;g=meta.k8s.io")
	f.Add("POST", "/api/v1/namespaces/default/configmaps?fieldValidation=Strict", "application/yaml", "a: b\na: c", "")
	f.Add("POST", "/api/v1/namespaces/default/pods", "application/vnd.kubernetes.protobuf", "k8s\x00\n\x09\n\x02v1\x12\x03Pod\x12\x04\n\x02\n\x00", "application/vnd.kubernetes.protobuf")
	f.Add("PATCH", "/api/v1/namespaces/default/configmaps/one", "application/json-patch+json", `[{"op":"remove","path":"/data"}]`, "application/yaml")
	f.Add("PATCH", "/api/v1/namespaces/default/configmaps/one", "application/strategic-merge-patch+json", `{"$patch":"replace"}`, "")
	f.Add("PATCH", "/api/v1/namespaces/default/configmaps/one?fieldManager=x", "application/apply-patch+yaml", `{"kind":"ConfigMap","apiVersion":"v1"}`, "")
	f.Add("DELETE", "/api/v1/namespaces/default/configmaps/one?gracePeriodSeconds=x", "", "", "")
	f.Add("GET", "/api/v1/nodes/a:b:c:d/proxy/%2e%2e/x", "", "", "*/*;q=0.1,application/json;q=x")
	f.Fuzz(func(t *testing.T, method, target, contentType, body, accept string) {
		u, err := url.Parse(target)
		if err != nil || !strings.HasPrefix(u.Path, "/") || u.Host != "" || strings.Contains(u.RawQuery, "watch") || strings.HasPrefix(u.Path, "/api/v1/watch") || strings.Contains(u.Path, "/watch/") {
			return
		}
		for _, r := range method {
			if r < 'A' || r > 'Z' {
				return
			}
		}
		if method == "" {
			return
		}
		s := store.OpenMemory(store.Options{Tag: resource.Tag})
		defer s.Close()
		e := resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...), Fields: fuzzFields})
		srv := New(Options{Engine: e})
		for _, m := range []string{"POST", method} {
			w := httptest.NewRecorder()
			r := httptest.NewRequest("GET", "/", strings.NewReader(body))
			r.Method, r.URL = m, u
			r.Header.Set("Accept", accept)
			r.Header.Set("Content-Type", contentType)
			srv.ServeHTTP(w, r)
			if w.Code < 200 || w.Code > 599 {
				t.Errorf("%s %s: %d", m, target, w.Code)
			}
			if strings.Contains(w.Body.String(), "caused apiserver to panic") {
				t.Errorf("%s %s panicked", m, target)
			}
		}
	})
}

// fuzzFields are shared, for their schemas take long to compile.
var fuzzFields = object.NewFieldManagers()
