package apiserver_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"

	"sagong/apiserver"
)

type event struct {
	Type   string
	Object struct {
		Kind     string
		Metadata metav1.ObjectMeta
		Code     int
		Reason   string
		Message  string
		Rows     []struct{ Cells []any }
		Columns  []any `json:"columnDefinitions"`
	}
}

// stream opens a watch; next reads an event.
func (c *cluster) stream(path string, headers ...string) (next func() event, stop func()) {
	c.Helper()
	ctx, cancel := context.WithCancel(c.ctx)
	req, err := http.NewRequestWithContext(ctx, "GET", c.url+path, nil)
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
	if resp.StatusCode != 200 {
		c.Fatalf("watch %s: %d", path, resp.StatusCode)
	}
	r := bufio.NewReader(resp.Body)
	return func() event {
			c.Helper()
			line, err := r.ReadBytes('\n')
			if err != nil {
				c.Fatal(err)
			}
			var e event
			if err := json.Unmarshal(line, &e); err != nil {
				c.Fatalf("%v in %s", err, line)
			}
			return e
		}, func() {
			cancel()
			resp.Body.Close()
		}
}

func (c *cluster) configMap(name, labels string) {
	c.Helper()
	code, b := c.do("POST", "/api/v1/namespaces/default/configmaps", fmt.Sprintf(`{"metadata":{"name":%q,"labels":{%s}}}`, name, labels))
	if code != 201 {
		c.Fatalf("%d %s", code, b)
	}
}

const configMaps = "/api/v1/namespaces/default/configmaps"

func TestWatchBeginnings(t *testing.T) {
	for _, test := range []struct{ query, want string }{
		{"", "ADDED a,ADDED b,ADDED new"},
		{"&resourceVersion=0", "ADDED a,ADDED b,ADDED new"},
		{"&resourceVersion=2", "ADDED b,ADDED new"},
		{"&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", "ADDED a,ADDED b,BOOKMARK end,ADDED new"},
		{"&sendInitialEvents=false&resourceVersionMatch=NotOlderThan", "ADDED new"},
		{"&labelSelector=x", "ADDED b"},
		{"&fieldSelector=metadata.name%3Dnew", "ADDED new"},
	} {
		t.Run(test.query, func(t *testing.T) {
			c := start(t)
			c.configMap("a", "")
			c.configMap("b", `"x":"y"`)
			next, stop := c.stream(configMaps + "?watch=1" + test.query)
			defer stop()
			c.configMap("new", "")
			for i, want := range strings.Split(test.want, ",") {
				e := next()
				got := e.Type + " " + e.Object.Metadata.Name
				if e.Object.Metadata.Annotations["k8s.io/initial-events-end"] == "true" {
					got += "end"
				}
				if got != want || e.Object.Kind != "ConfigMap" || e.Object.Metadata.ResourceVersion == "" {
					t.Errorf("event %d is %q (%+v), want %q", i, got, e, want)
				}
			}
		})
	}
}

func TestWatchSelectorTransitions(t *testing.T) {
	c := start(t)
	next, stop := c.stream(configMaps + "?watch=1&labelSelector=x%3Dy")
	defer stop()
	c.configMap("a", "")
	label := func(v string) {
		if code, b := c.do("PATCH", configMaps+"/a", `{"metadata":{"labels":{"x":`+v+`}}}`, "Content-Type", "application/merge-patch+json"); code != 200 {
			t.Fatal(code, b)
		}
	}
	label(`"y"`)
	if e := next(); e.Type != "ADDED" || e.Object.Metadata.Labels["x"] != "y" {
		t.Fatalf("%+v", e)
	}
	label(`"z"`)
	if e := next(); e.Type != "DELETED" || e.Object.Metadata.Labels["x"] != "y" || e.Object.Metadata.ResourceVersion != "4" {
		t.Fatalf("%+v", e)
	}
}

func TestWatchTooOld(t *testing.T) {
	c := start(t)
	c.configMap("a", "")
	c.configMap("b", "")
	if err := c.store.Compact(c.ctx, c.store.Rev()); err != nil {
		t.Fatal(err)
	}
	next, stop := c.stream(configMaps + "?watch=1&resourceVersion=1")
	defer stop()
	e := next()
	if e.Type != "ERROR" || e.Object.Code != 410 || e.Object.Reason != "Expired" || !strings.HasPrefix(e.Object.Message, "too old resource version: 1") {
		t.Fatalf("%+v", e)
	}
	code, b := c.do("GET", configMaps+"?resourceVersion=1&resourceVersionMatch=Exact", "")
	if s := decodeStatus(t, b); code != 410 || s.Reason != metav1.StatusReasonExpired {
		t.Fatalf("%d %s", code, b)
	}
}

// conformance: [sig-api-machinery] Servers with support for API chunking should support continue listing from the last key if the original version has been compacted away, though the list is inconsistent [Slow] [Conformance]
func TestContinueTooOld(t *testing.T) {
	c := start(t)
	for _, n := range []string{"a", "b", "c"} {
		c.configMap(n, "")
	}
	_, b := c.do("GET", configMaps+"?limit=1", "")
	var l metav1.PartialObjectMetadataList
	if err := json.Unmarshal([]byte(b), &l); err != nil {
		t.Fatal(err)
	}
	c.configMap("d", "")
	if err := c.store.Compact(c.ctx, c.store.Rev()); err != nil {
		t.Fatal(err)
	}
	code, b := c.do("GET", configMaps+"?limit=1&continue="+l.Continue, "")
	s := decodeStatus(t, b)
	if code != 410 || s.Continue == "" {
		t.Fatalf("%d %s", code, b)
	}
	code, b = c.do("GET", configMaps+"?limit=5&continue="+s.Continue, "")
	if code != 200 || strings.Count(b, `"name":`) != 3 || strings.Contains(b, `"name":"a"`) {
		t.Fatalf("%d %s", code, b)
	}
}

func TestWatchBookmarks(t *testing.T) {
	c := start(t, func(o *apiserver.Options) { o.BookmarkEvery = 20 * time.Millisecond })
	next, stop := c.stream(configMaps + "?watch=1&allowWatchBookmarks=true&labelSelector=none")
	defer stop()
	// A watch from nowhere begins with all there is, and says when that is over.
	if e := next(); e.Type != "BOOKMARK" || e.Object.Metadata.Annotations["k8s.io/initial-events-end"] != "true" {
		t.Fatalf("%+v", e)
	}
	c.configMap("a", "")
	if e := next(); e.Type != "BOOKMARK" || e.Object.Metadata.ResourceVersion != "2" || e.Object.Kind != "ConfigMap" {
		t.Fatalf("%+v", e)
	}
}

func TestWatchTable(t *testing.T) {
	c := start(t)
	c.configMap("a", "")
	next, stop := c.stream(configMaps+"?watch=1", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	defer stop()
	first := next()
	c.configMap("b", "")
	second := next()
	if first.Object.Kind != "Table" || len(first.Object.Columns) == 0 || first.Object.Rows[0].Cells[0] != "a" {
		t.Fatalf("%+v", first)
	}
	if len(second.Object.Columns) != 0 || second.Object.Rows[0].Cells[0] != "b" {
		t.Fatalf("%+v", second)
	}
}

// TestWatchDrain: a server that shuts down ends its watches at once.
func TestWatchDrain(t *testing.T) {
	c := start(t)
	req, err := http.NewRequestWithContext(c.ctx, "GET", c.url+configMaps+"?watch=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := c.server.Shutdown(c.ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(resp.Body).ReadByte(); err == nil {
		t.Fatal("the watch goes on")
	}
	if code, b := c.do("GET", "/readyz", ""); code != 500 || !strings.Contains(b, "[-]shutdown failed") {
		t.Fatalf("%d %s", code, b)
	}
}

// TestInformer runs client-go's informer, which streams its list.
func TestInformer(t *testing.T) {
	c := start(t)
	for i := range 30 {
		c.configMap(fmt.Sprintf("m%d", i), "")
	}
	k := c.clientset("application/vnd.kubernetes.protobuf")
	informer := cache.NewSharedInformer(cache.NewListWatchFromClient(k.CoreV1().RESTClient(), "configmaps", "default", fields.Everything()), &corev1.ConfigMap{}, 0)
	added := make(chan string, 100)
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(o any) { added <- o.(*corev1.ConfigMap).Name }}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(c.ctx)
	go func() {
		defer close(done)
		informer.RunWithContext(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()
	for range 30 {
		select {
		case <-added:
		case <-c.ctx.Done():
			t.Fatal("the informer did not see all")
		}
	}
	c.configMap("late", "")
	if name := <-added; name != "late" {
		t.Fatalf("saw %s", name)
	}
}
