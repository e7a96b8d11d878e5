package apiserver_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver"
)

const scalable = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":1,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`

// TestApplyToScale: who applied the number of replicas, through the object or
// through its scale, owns that field of the object (upstream's
// test/integration/apiserver/apply/scale_test.go).
func TestApplyToScale(t *testing.T) {
	c := start(t)
	const web = "/apis/apps/v1/namespaces/default/deployments/web"
	owners := func() string {
		t.Helper()
		_, body := c.do("GET", web, "")
		var d appsv1.Deployment
		if err := json.Unmarshal([]byte(body), &d); err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, m := range d.ManagedFields {
			if strings.Contains(string(m.FieldsV1.Raw), `"f:replicas"`) {
				out = append(out, m.Manager+" "+string(m.Operation)+" "+m.Subresource+" "+m.APIVersion)
			}
		}
		return strings.Join(out, ", ")
	}
	apply := func(path, query, body string, want int, text string) {
		t.Helper()
		if code, got := c.do("PATCH", path+"?"+query, body, "Content-Type", "application/apply-patch+yaml"); code != want || !strings.Contains(got, text) {
			t.Errorf("%s?%s: %d %s, want %d %q", path, query, code, got, want, text)
		}
	}
	scale := func(n, rest string) string {
		return `{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"web"` + rest + `},"spec":{"replicas":` + n + `}}`
	}
	apply(web, "fieldManager=one", scalable, 201, "")

	apply(web+"/scale", "fieldManager=two", scale("2", ""), 409, `conflict with \"one\": .spec.replicas`)
	apply(web+"/scale", "fieldManager=two&force=true", scale("2", ""), 200, `"replicas":2`)
	if got, want := owners(), "two Apply scale apps/v1"; got != want {
		t.Errorf("forced: owned by %q, want %q", got, want)
	}
	apply(web+"/scale", "fieldManager=two", scale("3", ""), 200, `"replicas":3`)
	apply(web+"/scale", "fieldManager=three", scale("3", ""), 200, "")
	if got := owners(); !strings.Contains(got, "two Apply scale apps/v1") || !strings.Contains(got, "three Apply scale apps/v1") {
		t.Errorf("shared: owned by %q", got)
	}
	_, before := c.do("GET", web, "")
	apply(web+"/scale", "fieldManager=three", scale("3", ""), 200, "")
	if _, after := c.do("GET", web, ""); after != before {
		t.Errorf("applied again, the object changed:\n%s\n%s", before, after)
	}
	if code, body := c.do("PUT", web+"/scale?fieldManager=four", scale("4", `,"namespace":"default"`)); code != 200 {
		t.Fatal(code, body)
	}
	if got, want := owners(), "four Update scale apps/v1"; got != want {
		t.Errorf("replaced: owned by %q, want %q", got, want)
	}
	apply(web+"/scale", "fieldManager=two", scale("5", ""), 409, `conflict with \"four\"`)

	apply(web+"/scale", "fieldManager=two", scale(`"x"`, ""), 500, "failed to create typed patch object")
	apply(web+"/scale", "fieldManager=two&force=true", scale("5", `,"resourceVersion":"1"`), 409, "the object has been modified")
	apply(web+"/scale", "fieldManager=two", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"}}`, 400, "invalid object type: apps/v1, Kind=Deployment")
	apply(web+"/scale", "force=true", scale("5", ""), 422, "is required for apply patch")
}

// TestPatchOfScale: the errors are those of any patch (endpoints/handlers/patch.go).
func TestPatchOfScale(t *testing.T) {
	c := start(t)
	const web = "/apis/apps/v1/namespaces/default/deployments/web/scale"
	if code, body := c.do("POST", "/apis/apps/v1/namespaces/default/deployments", scalable); code != 201 {
		t.Fatal(code, body)
	}
	for _, x := range []struct {
		query, patch string
		code         int
		text, warn   string
	}{
		{"", `{"spec":{"replicas":2}}`, 200, `"replicas":2`, ""},
		{"", `{"spec":{"replicas":-1}}`, 422, "must be greater than or equal to 0", ""},
		{"", `{"spec":{"replicas":"x"}}`, 422, "json: cannot unmarshal string into Go struct field ScaleSpec.spec.replicas of type int32", ""},
		{"", `{"apiVersion":"v1"}`, 422, `no kind \"Scale\" is registered for version \"v1\"`, ""},
		{"", `{"foo":1}`, 200, "", `299 - "unknown field \"foo\""`},
		{"?fieldValidation=Strict", `{"foo":1}`, 422, `strict decoding error: unknown field \"foo\"`, ""},
		{"", `{"spec":{"replicas":2,"replicas":3}}`, 200, `"replicas":3`, `299 - "duplicate field \"spec.replicas\""`},
		{"", `{"metadata":{"name":null}}`, 400, "name must be provided", ""},
	} {
		code, body, h := c.full("PATCH", web+x.query, x.patch, "Content-Type", "application/merge-patch+json")
		if code != x.code || !strings.Contains(body, x.text) || h.Get("Warning") != x.warn {
			t.Errorf("%s: %d %s, warning %s\nwant %d %s, warning %s", x.patch, code, body, h.Get("Warning"), x.code, x.text, x.warn)
		}
	}
}

// TestMethodsWithoutARoute: upstream has no HEAD of built-in kinds.
func TestMethodsWithoutARoute(t *testing.T) {
	c := start(t)
	for _, path := range []string{"/api/v1/namespaces/default/configmaps", "/api/v1/nodes", "/api/v1/pods"} {
		if code, _ := c.do("HEAD", path, ""); code != http.StatusMethodNotAllowed {
			t.Errorf("HEAD %s: %d", path, code)
		}
	}
}

// TestIndex: kubectl get --raw / lists what is served, with each check of health
// and without profiles, as upstream's does.
func TestIndex(t *testing.T) {
	c := start(t)
	none := http.NotFoundHandler()
	for _, path := range []string{"/metrics", "/openapi/v3", "/openapi/v3/", "/debug/pprof/", "/debug/pprof/profile"} {
		c.server.Handle(path, none)
	}
	c.server.AddCheck(apiserver.Check{Name: "etcd", For: apiserver.Readyz})
	const want = "/healthz /healthz/etcd /healthz/ping /healthz/shutdown /livez /livez/ping /metrics /openapi/v3 /openapi/v3/ /readyz /readyz/etcd /readyz/ping /readyz/shutdown /version"
	for _, path := range []string{"/", "/index.html"} {
		code, body := c.do("GET", path, "")
		var got metav1.RootPaths
		if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 || strings.Join(got.Paths, " ") != want {
			t.Errorf("%s: %d %v, want %s", path, code, got.Paths, want)
		}
	}
}

// TestNameOfWhatIsGoing: a name is taken until its object is gone, and the
// error says that it is on its way.
func TestNameOfWhatIsGoing(t *testing.T) {
	c := start(t)
	const all = "/api/v1/namespaces/default/configmaps"
	const body = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","finalizers":["example.com/f"]}}`
	c.do("POST", all, body)
	if _, got := c.do("POST", all, body); !strings.Contains(got, `"message":"configmaps \"a\" already exists"`) {
		t.Error(got)
	}
	c.do("DELETE", all+"/a", "")
	for _, query := range []string{"", "?dryRun=All"} {
		if code, got := c.do("POST", all+query, body); code != 409 || !strings.Contains(got, `"message":"object is being deleted: configmaps \"a\" already exists"`) {
			t.Error(code, got)
		}
	}
}
