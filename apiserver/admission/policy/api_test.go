package policy_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"sagong/apiserver"
	"sagong/apiserver/discovery"
)

const group = "/apis/admissionregistration.k8s.io"

// conformance: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicy API operations [Conformance]
// conformance: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicyBinding API operations [Conformance]
// conformance: [sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicy API operations [Conformance]
// conformance: [sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicyBinding API operations [Conformance]
// conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should include webhook resources in discovery documents [Conformance]
func TestAPIOperations(t *testing.T) {
	h := newHouse(t)
	s := apiserver.New(apiserver.Options{Engine: h.engine, Discovery: discovery.New(h.Scheme(), "127.0.0.1:6443")})
	srv := httptest.NewServer(s)
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	do := func(method, path, contentType, body string) (int, string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, method, srv.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	want := func(code int, method, path, contentType, body, part string) string {
		t.Helper()
		got, text := do(method, path, contentType, body)
		if got != code || !strings.Contains(text, part) {
			t.Fatalf("%s %s: %d %s, want %d with %q", method, path, got, text, code, part)
		}
		return text
	}
	const js, merge = "application/json", "application/merge-patch+json"
	want(200, "GET", "/apis", js, "", `"name":"admissionregistration.k8s.io"`)
	want(200, "GET", group, js, "", `"groupVersion":"admissionregistration.k8s.io/v1"`)
	for _, r := range []string{"mutatingwebhookconfigurations", "validatingwebhookconfigurations", "validatingadmissionpolicies/status"} {
		want(200, "GET", group+"/v1", js, "", `"name":"`+r+`"`)
	}
	for resource, text := range map[string]string{
		"validatingadmissionpolicies":       "kind: ValidatingAdmissionPolicy\n" + validating("NAME", "\n  validations: [{expression: 'true'}]\n"),
		"validatingadmissionpolicybindings": "kind: ValidatingAdmissionPolicyBinding\n" + bind("NAME", "p", "  validationActions: [Audit]\n"),
		"mutatingadmissionpolicies":         "kind: MutatingAdmissionPolicy\n" + validating("NAME", never+"  mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: 'Object{}'}}]\n"),
		"mutatingadmissionpolicybindings":   "kind: MutatingAdmissionPolicyBinding\n" + bind("NAME", "p", ""),
	} {
		t.Run(resource, func(t *testing.T) {
			all := group + "/v1/" + resource
			want(200, "GET", group+"/v1", js, "", `"name":"`+resource+`"`)
			for _, name := range []string{"one", "two", "three"} {
				body := "apiVersion: admissionregistration.k8s.io/v1\n" + strings.Replace(text, "{name: NAME}", "{name: "+name+", labels: {set: t}}", 1)
				b, err := yaml.YAMLToJSON([]byte(body))
				if err != nil {
					t.Fatal(err)
				}
				want(201, "POST", all, js, string(b), `"uid":`)
			}
			list := want(200, "GET", all+"?labelSelector=set%3Dt", js, "", `"name":"three"`)
			var meta struct {
				Metadata struct{ ResourceVersion string }
			}
			if err := json.Unmarshal([]byte(list), &meta); err != nil {
				t.Fatal(err)
			}
			one := want(200, "GET", all+"/one", js, "", `"generation":1`)
			want(200, "PATCH", all+"/one", merge, `{"metadata":{"annotations":{"patched":"true"}}}`, `"patched":"true"`)
			one = want(200, "GET", all+"/one", js, "", `"patched":"true"`)
			want(200, "PUT", all+"/one", js, strings.Replace(one, `"patched":"true"`, `"patched":"true","updated":"true"`, 1), `"updated":"true"`)
			first(t, srv.URL+all+"?watch=1&resourceVersion="+meta.Metadata.ResourceVersion, "MODIFIED")
			want(200, "DELETE", all+"/one", js, "", "")
			want(404, "GET", all+"/one", js, "", "")
			want(200, "DELETE", all+"?labelSelector=set%3Dt", js, "", "")
			if list := want(200, "GET", all, js, "", ""); strings.Contains(list, `"name":"two"`) {
				t.Errorf("deleted together, but still there: %s", list)
			}
		})
	}
	want(200, "GET", group+"/v1/validatingadmissionpolicies", js, "", "items")
}

// first reads the first event of a watch.
func first(t *testing.T, url, sort string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var e struct{ Type string }
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || e.Type != sort {
		t.Errorf("the first event is %q, %v", e.Type, err)
	}
}
