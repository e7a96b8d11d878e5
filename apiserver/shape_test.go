package apiserver_test

import (
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

func TestCompressedList(t *testing.T) {
	c := start(t)
	for i := range 40 {
		if code, b := c.do("POST", configMaps, fmt.Sprintf(`{"metadata":{"name":"m%d"},"data":{"a":%q}}`, i, strings.Repeat("text ", 1000))); code != 201 {
			t.Fatal(code, b)
		}
	}
	// From another machine: nobody compresses for a client on the same one.
	req := httptest.NewRequest("GET", configMaps, nil)
	req.Header.Set("Accept-Encoding", "gzip")
	resp := httptest.NewRecorder()
	c.server.ServeHTTP(resp, req)
	if resp.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("headers %v", resp.Header())
	}
	z, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil || strings.Count(string(b), `"uid"`) != 40 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
}
