package apiserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"sagong/apiserver"
	"sagong/apiserver/resource"
	"sagong/kinds"
	"sagong/object"
	"sagong/store"
)

type cluster struct {
	*testing.T
	url    string
	engine *resource.Engine
	server *apiserver.Server
	store  *store.Local
	ctx    context.Context
}

func start(t *testing.T, change ...func(*apiserver.Options)) *cluster {
	t.Helper()
	return startAt(t, time.Now, change...)
}

// startAt runs a server by another clock.
func startAt(t *testing.T, now func() time.Time, change ...func(*apiserver.Options)) *cluster {
	t.Helper()
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	e := resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...), Fields: object.NewFieldManagers(), Now: now})
	o := apiserver.Options{Engine: e}
	for _, f := range change {
		f(&o)
	}
	srv := apiserver.New(o)
	hs := httptest.NewServer(srv)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(func() {
		cancel()
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		hs.Close()
		s.Close()
	})
	return &cluster{T: t, url: hs.URL, engine: e, server: srv, store: s, ctx: ctx}
}

// do sends a request and returns code and body. Headers are pairs.
func (c *cluster) do(method, path, body string, headers ...string) (int, string) {
	c.Helper()
	code, b, _ := c.full(method, path, body, headers...)
	return code, b
}

func (c *cluster) full(method, path, body string, headers ...string) (int, string, http.Header) {
	c.Helper()
	req, err := http.NewRequestWithContext(c.ctx, method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func (c *cluster) clientset(contentType string) *kubernetes.Clientset {
	c.Helper()
	k, err := kubernetes.NewForConfig(&rest.Config{Host: c.url, QPS: -1, ContentConfig: rest.ContentConfig{
		ContentType: contentType, AcceptContentTypes: contentType + ",application/json",
	}})
	if err != nil {
		c.Fatal(err)
	}
	return k
}

func TestClientGo(t *testing.T) {
	for name, media := range map[string]string{"JSON": "application/json", "Protobuf": "application/vnd.kubernetes.protobuf"} {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			k := c.clientset(media)
			maps := k.CoreV1().ConfigMaps("default")
			w, err := maps.Watch(c.ctx, metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			made, err := maps.Create(c.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "one"}, Data: map[string]string{"a": "1"}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if made.UID == "" || made.ResourceVersion == "" || made.Namespace != "default" || len(made.ManagedFields) != 1 {
				t.Fatalf("created: %+v", made)
			}
			made.Data["a"] = "2"
			updated, err := maps.Update(c.ctx, made, metav1.UpdateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			list, err := maps.List(c.ctx, metav1.ListOptions{})
			if err != nil || len(list.Items) != 1 || list.Items[0].Data["a"] != "2" || list.Items[0].ResourceVersion != updated.ResourceVersion {
				t.Fatalf("list: %+v, %v", list, err)
			}
			if _, err := maps.Get(c.ctx, "two", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				t.Fatalf("get of nothing: %v", err)
			}
			if err := maps.Delete(c.ctx, "one", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			for _, want := range []watch.EventType{watch.Added, watch.Modified, watch.Deleted} {
				ev := <-w.ResultChan()
				cm, ok := ev.Object.(*corev1.ConfigMap)
				if ev.Type != want || !ok || cm.Name != "one" || cm.ResourceVersion == "" {
					t.Fatalf("event %s %+v, want %s", ev.Type, ev.Object, want)
				}
			}
		})
	}
}

func TestAppliedByStrictYAML(t *testing.T) {
	c := start(t)
	body := "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: one\ndata:\n  a: b\nspek: 1\n"
	code, b := c.do("POST", "/api/v1/namespaces/default/configmaps?fieldValidation=Strict", body, "Content-Type", "application/yaml")
	if want := `ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"spek\"`; code != 400 || !strings.Contains(b, want) {
		t.Fatalf("%d %s\nwant %s", code, b, want)
	}
	code, b, h := c.full("POST", "/api/v1/namespaces/default/configmaps", body, "Content-Type", "application/yaml")
	if code != 201 || h.Get("Warning") != `299 - "unknown field \"spek\""` {
		t.Fatalf("%d %s %v", code, b, h)
	}
	code, _ = c.do("PATCH", "/api/v1/namespaces/default/configmaps/one?fieldManager=me", `{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"c"}}`, "Content-Type", "application/apply-patch+yaml")
	if code != 409 {
		t.Fatalf("apply over another manager's field: %d", code)
	}
	code, b = c.do("PATCH", "/api/v1/namespaces/default/configmaps/one?fieldManager=me&force=true", `{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"c"}}`, "Content-Type", "application/apply-patch+yaml")
	if code != 200 || !strings.Contains(b, `"a":"c"`) {
		t.Fatalf("forced apply: %d %s", code, b)
	}
	_, again := c.do("PATCH", "/api/v1/namespaces/default/configmaps/one?fieldManager=me&force=true", `{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"c"}}`, "Content-Type", "application/apply-patch+yaml")
	if again != b {
		t.Fatalf("applying the same again changed\n%s to\n%s", b, again)
	}
}

func decodeStatus(t *testing.T, b string) metav1.Status {
	t.Helper()
	var s metav1.Status
	if err := json.Unmarshal([]byte(b), &s); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return s
}

var _ = bytes.NewReader
var _ runtime.Object = (*metav1.Status)(nil)

// Clients made from the OpenAPI document ask for /version/.
func TestPathOfAServiceMayEndInASlash(t *testing.T) {
	c := start(t)
	for path, want := range map[string]int{"/version": 200, "/version/": 200, "/version/x": 404, "/version//": 404} {
		if code, body := c.do("GET", path, ""); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
	if paths := strings.Join(c.server.Paths(), " "); paths != "/healthz /healthz/ /livez /livez/ /readyz /readyz/ /version" {
		t.Error(paths)
	}
}
