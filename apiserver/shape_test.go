package apiserver_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// TestMetadataClient: lists and watches reduced to metadata, in protobuf, as the
// garbage collector of any client reads them.
func TestMetadataClient(t *testing.T) {
	c := start(t)
	c.configMap("a", `"x":"y"`)
	m, err := metadata.NewForConfig(&rest.Config{Host: c.url})
	if err != nil {
		t.Fatal(err)
	}
	maps := m.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace("default")
	list, err := maps.List(c.ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].Labels["x"] != "y" || list.Items[0].ResourceVersion == "" || list.ResourceVersion == "" {
		t.Fatalf("%+v, %v", list, err)
	}
	one, err := maps.Get(c.ctx, "a", metav1.GetOptions{})
	if err != nil || one.UID != list.Items[0].UID {
		t.Fatalf("%+v, %v", one, err)
	}
	w, err := maps.Watch(c.ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	c.configMap("b", "")
	ev := <-w.ResultChan()
	if got, ok := ev.Object.(*metav1.PartialObjectMetadata); !ok || got.Name != "b" || got.ResourceVersion == "" {
		t.Fatalf("%s %+v", ev.Type, ev.Object)
	}
	if err := maps.DeleteCollection(c.ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if list, err = maps.List(c.ctx, metav1.ListOptions{}); err != nil || len(list.Items) != 0 {
		t.Fatalf("%+v, %v", list, err)
	}
}

// TestNoTableForReviews: what is not a resource has no table, and clients that
// take nothing else are told so.
func TestNoTableForReviews(t *testing.T) {
	c := start(t)
	code, b := c.do("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", `{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{}}`,
		"Content-Type", "application/json", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	if s := decodeStatus(t, b); code != 406 || s.Reason != metav1.StatusReasonNotAcceptable {
		t.Fatalf("%d %s", code, b)
	}
}

func TestCreateOnUpdate(t *testing.T) {
	c := start(t)
	path := "/apis/coordination.k8s.io/v1/namespaces/default/leases/l"
	body := `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"l","namespace":"default"},"spec":{"leaseDurationSeconds":15}}`
	if code, b := c.do("PUT", path, body, "Content-Type", "application/json"); code != 201 || !strings.Contains(b, `"resourceVersion":"2"`) {
		t.Fatalf("%d %s", code, b)
	}
	if code, b := c.do("PUT", path, body, "Content-Type", "application/json"); code != 200 && code != 422 {
		t.Fatalf("%d %s", code, b)
	}
}

func TestDryRun(t *testing.T) {
	c := start(t)
	rev := c.store.Rev()
	if code, b := c.do("POST", configMaps+"?dryRun=All", `{"metadata":{"name":"a"}}`); code != 201 || !strings.Contains(b, `"uid":`) || strings.Contains(b, `"resourceVersion"`) {
		t.Fatalf("%d %s", code, b)
	}
	if c.store.Rev() != rev {
		t.Fatal("a dry run wrote")
	}
	c.configMap("a", "")
	rev = c.store.Rev()
	for _, step := range [][3]string{
		{"DELETE", configMaps + "/a?dryRun=All", ""},
		{"DELETE", configMaps + "/a", `{"kind":"DeleteOptions","apiVersion":"v1","dryRun":["All"]}`},
		{"DELETE", configMaps + "?dryRun=All", ""},
		{"PATCH", configMaps + "/a?dryRun=All", `{"data":{"x":"y"}}`},
		{"PATCH", configMaps + "/new?dryRun=All&fieldManager=m", `{"apiVersion":"v1","kind":"ConfigMap"}`},
	} {
		media := "application/json"
		if step[0] == "PATCH" {
			media = "application/merge-patch+json"
			if strings.Contains(step[1], "fieldManager") {
				media = "application/apply-patch+yaml"
			}
		}
		if code, b := c.do(step[0], step[1], step[2], "Content-Type", media); code >= 300 {
			t.Errorf("%v: %d %s", step, code, b)
		}
		if c.store.Rev() != rev {
			t.Errorf("%v wrote", step)
		}
	}
}

// TestCompressed: what is larger than 128 KB is compressed for who takes that,
// in each form, and nothing else; a watch never is.
func TestCompressed(t *testing.T) {
	c := start(t)
	for i := range 40 {
		if code, b := c.do("POST", configMaps, fmt.Sprintf(`{"metadata":{"name":"m%d"},"data":{"a":%q}}`, i, strings.Repeat("text ", 1000))); code != 201 {
			t.Fatal(code, b)
		}
	}
	if code, b := c.do("POST", configMaps, fmt.Sprintf(`{"metadata":{"name":"large"},"data":{"a":%q}}`, strings.Repeat("text ", 30_000))); code != 201 {
		t.Fatal(code, b)
	}
	const (
		table    = "application/json;as=Table;v=v1;g=meta.k8s.io"
		protobuf = "application/vnd.kubernetes.protobuf"
		one      = "?fieldSelector=metadata.name%3Dm7"
	)
	for _, tc := range []struct {
		path, accept, takes string
		compressed          bool
	}{
		{"", "", "gzip", true}, {"", "application/yaml", "gzip", true}, {"", protobuf, "gzip", true}, {"", "application/cbor", "deflate, gzip;q=0.5", true},
		{"?includeObject=Object", table, "gzip", true}, {"/large?includeObject=Object", table, "gzip", true}, {"/large", "", "gzip", true}, {"/large", protobuf, "gzip", true}, {"/large?pretty=1", "", "gzip", true},
		{"", "", "", false}, {"", "", "identity", false}, {"", "", "gzip;q=0", false}, {"", "", "deflate, br", false}, {"/large", "", "identity", false},
		{one, "", "gzip", false}, {one, table, "gzip", false}, {"/m7", "", "gzip", false}, {"/m7", protobuf, "gzip", false}, {"", table, "gzip", false}, {"/none", "", "gzip", false},
		{"?watch=1&timeoutSeconds=1", "", "gzip", false},
	} {
		// From another machine: nobody compresses for a client on the same one.
		r := httptest.NewRequest("GET", configMaps+tc.path, nil)
		r.Header.Set("Accept", tc.accept)
		r.Header.Set("Accept-Encoding", tc.takes)
		w := httptest.NewRecorder()
		c.server.ServeHTTP(w, r)
		h := w.Result().Header
		if got := h.Get("Content-Encoding") == "gzip"; got != tc.compressed || got != (h.Get("Vary") == "Accept-Encoding") || got && h.Get("Content-Length") != "" {
			t.Errorf("%s as %q for %q: %v", tc.path, tc.accept, tc.takes, h)
			continue
		}
		if !tc.compressed {
			continue
		}
		z, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(z)
		if err != nil || len(b) <= 128<<10 || !strings.Contains(string(b), "large") {
			t.Errorf("%s as %q: %d bytes, %v", tc.path, tc.accept, len(b), err)
		}
	}
	// A body is read as it is, whatever it says.
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	io.WriteString(z, `{"metadata":{"name":"packed"}}`)
	z.Close()
	if code, b := c.do("POST", configMaps, body.String(), "Content-Type", "application/json", "Content-Encoding", "gzip"); code != 400 || decodeStatus(t, b).Reason != metav1.StatusReasonBadRequest {
		t.Errorf("a packed body: %d %s", code, b)
	}
}
