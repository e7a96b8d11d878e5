package apiserver_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"sagong/apiserver"
	"sagong/apiserver/discovery"
	"sagong/kinds"
	"sagong/object"
)

// TestOddPaths holds paths that lead nowhere, methods without a route and media
// types without a form to what upstream's router (go-restful), mux and handlers
// make of them.
func TestOddPaths(t *testing.T) {
	c := start(t, func(o *apiserver.Options) {
		o.Discovery = discovery.New(object.NewScheme(kinds.All()...), "127.0.0.1:6443")
	})
	const (
		page     = "404 page not found\n"
		found    = "\x00" // anything
		nowhere  = `"message":"the server could not find the requested resource","reason":"NotFound","details":{},"code":404`
		method   = `"message":"the server does not allow this method on the requested resource","reason":"MethodNotAllowed","details":{},"code":405`
		media    = `"message":"415: Unsupported Media Type","reason":"UnsupportedMediaType","details":{},"code":415`
		forms    = `application/json, application/yaml, application/vnd.kubernetes.protobuf, application/cbor`
		streams  = forms + `, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch, application/cbor-seq`
		core     = "/api/v1/namespaces/default"
		maps     = core + "/configmaps"
		acceptXM = "Accept: text/xml"
	)
	accepts := func(of string) string {
		return `"message":"406: Not Acceptable\n\nAvailable representations: ` + of + `","reason":"NotAcceptable","details":{},"code":406`
	}
	if code, body := c.do("POST", "/api/v1/namespaces", `{"metadata":{"name":"default"}}`); code != 201 {
		t.Fatal(code, body)
	}
	for _, tc := range []struct {
		method, path, header, want string
	}{
		// Slashes at the end do not matter where there is a router.
		{"GET", "/api/v1/namespaces/", "", found}, {"GET", core + "/", "", found}, {"GET", "/api/v1/", "", found}, {"GET", "/apis/apps/v1/", "", found},
		{"GET", "/apis/apps/", "", found}, {"GET", "/version/", "", found}, {"GET", "/api/", "", found}, {"GET", "/apis/", "", found},
		// Others do: nothing is cleaned.
		{"GET", "//api/v1/namespaces", "", page}, {"GET", "/api/v1//namespaces/default", "", nowhere}, {"GET", "/api//v1/namespaces", "", nowhere},
		{"GET", "/api/v1/namespaces//default", "", nowhere}, {"GET", core + "/../default", "", nowhere}, {"GET", maps + "/a%2fb", "", nowhere},
		{"GET", "/api/v1/namespaces//pods", "", found},
		{"GET", maps + "/..", "", `"message":"Name parameter invalid: \"..\": may not be '..'","reason":"BadRequest","code":400`},
		{"GET", maps + "/%2e%2e", "", `Name parameter invalid`},
		// Below built-in groups the router answers, elsewhere the mux.
		{"GET", "/api/v9", "", nowhere}, {"GET", "/api/v9/pods", "", nowhere}, {"GET", "/api/v1/nope", "", nowhere}, {"GET", core + "/pods/x/nope", "", nowhere},
		{"GET", "/apis/apps/v9", "", nowhere}, {"GET", "/apis/apps/v9/deployments", "", nowhere}, {"GET", "/apis/apps/v1/nope", "", nowhere},
		{"GET", "/apis/nope", "", page}, {"GET", "/apis/nope/v1", "", page}, {"GET", "/apis/nope/v1/things", "", page}, {"GET", "/apis/nope/", "", page},
		{"GET", "/nope", "", page}, {"GET", "/healthz/nope", "", page}, {"GET", "/version/nope", "", nowhere}, {"GET", "/versions", "", page}, {"GET", "/index.htm", "", page},
		{"GET", core + "/status/x", "", nowhere}, {"GET", core + "/pods/x/log/y", "", nowhere}, {"GET", core + "/status/", "", found},
		{"GET", "/api/v1/watch", "", nowhere}, {"GET", "/api/v1/watch/", "", nowhere}, {"GET", "/api/v1/proxy/nodes/x", "", nowhere},
		// Methods.
		{"POST", "/api", "", method}, {"DELETE", "/api/v1", "", method}, {"POST", "/apis/apps/v1", "", method}, {"HEAD", "/api/v1", "", ""},
		{"POST", "/apis", "", found}, {"PUT", "/apis/apps", "", found}, {"POST", "/version", "", method}, {"POST", "/healthz", "", found}, {"PUT", "/", "", found},
		{"OPTIONS", core, "", method}, {"FOO", maps, "", method}, {"TRACE", core, "", method}, {"PUT", maps, "", method}, {"POST", maps + "/a", "", method},
		{"PATCH", maps, "Content-Type: application/json", method}, {"DELETE", "/api/v1/nodes/x/status", "", method}, {"POST", "/api/v1/configmaps", "", method},
		{"PUT", core + "/pods/x/log", "", method}, {"PATCH", core + "/pods/x/exec", "", method}, {"HEAD", core + "/pods/x/portforward", "", ""}, {"FOO", core + "/pods/x/proxy", "", method},
		{"GET", core + "/pods/x/eviction", "", method}, {"GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "", method}, {"GET", "/api/v1/bindings", "", method},
		{"PATCH", core + "/finalize", "", method}, {"GET", core + "/finalize", "", method}, {"POST", core + "/status", "", method},
		// Media types; the first that the router looks at is that of the body.
		{"GET", core, acceptXM, accepts(forms)}, {"GET", maps, acceptXM, accepts(streams)}, {"GET", maps + "?watch=1", acceptXM, accepts(streams)},
		{"GET", "/api/v1/watch/pods", acceptXM, accepts(streams)}, {"POST", maps, acceptXM, accepts(forms)}, {"DELETE", maps, acceptXM, accepts(forms)},
		{"GET", core, "Accept: application/*", accepts(forms)}, {"GET", core, "Accept: text/html, */*;q=0.1", found}, {"GET", core, "Accept: text/html, application/yaml;q=0.1", found},
		{"GET", core + "/pods/x/log", acceptXM, accepts("text/plain, " + forms)},
		{"GET", "/api", acceptXM, accepts(forms)}, {"GET", "/apis/apps/v1", acceptXM, accepts(forms)}, {"GET", "/version", acceptXM, accepts("application/json")},
		{"GET", "/apis", acceptXM, `"message":"only the following media types are accepted: ` + forms + `","reason":"NotAcceptable","code":406`},
		{"GET", "/api", "Content-Type: text/plain", accepts("")},
		{"PATCH", core, "Content-Type: application/json", media}, {"PATCH", core, "", media}, {"PATCH", core + "/status", "Content-Type: foo", media},
		{"PATCH", core, "Content-Type: text/xml, application/merge-patch+json", `"message":"the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml, application/apply-patch+cbor","reason":"UnsupportedMediaType","code":415`},
		{"POST", maps, "Content-Type: text/xml", `"message":"the body of the request was in an unknown format - accepted media types include: ` + forms + `","reason":"UnsupportedMediaType","code":415`},
	} {
		body := "{}"
		if tc.method == "GET" || tc.method == "HEAD" {
			body = ""
		}
		var headers []string
		if name, value, ok := strings.Cut(tc.header, ": "); ok {
			headers = []string{name, value}
		}
		code, got := c.do(tc.method, tc.path, body, headers...)
		var compact bytes.Buffer
		if json.Compact(&compact, []byte(got)) == nil {
			got = compact.String()
		}
		switch {
		case tc.want == found && code == http.StatusOK:
		case tc.method == "HEAD" && code == http.StatusMethodNotAllowed:
		case tc.want == page && got == page && code == http.StatusNotFound:
		case tc.want != found && tc.want != page && tc.want != "" && strings.Contains(got, tc.want):
		default:
			t.Errorf("%s %s %s: %d %s, want %q", tc.method, tc.path, tc.header, code, got, tc.want)
		}
	}
}
