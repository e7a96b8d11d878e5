package apiserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver"
)

// watchEnds is told of the end of watches.
type watchEnds chan struct{}

func (watchEnds) Request(*apiserver.Info, *http.Request, apiserver.End) {}

func (watchEnds) Checked(string, string, bool) {}

func (w watchEnds) Watching(_ *apiserver.Info, _ *http.Request, delta int) {
	if delta < 0 {
		w <- struct{}{}
	}
}

// TestStalledWatchIsCut opens a watch and never reads it: when nothing more fits
// into the connection, the server gives it up. One that is read goes on.
func TestStalledWatchIsCut(t *testing.T) {
	ended := make(watchEnds, 2)
	c := start(t, func(o *apiserver.Options) { o.Metrics, o.StallLimit = ended, time.Second })
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s?watch=1 HTTP/1.1\r\nHost: h\r\n\r\n", configMaps)
	if _, err := conn.Read(make([]byte, 1)); err != nil { // it has begun
		t.Fatal(err)
	}
	next, stop := c.stream(configMaps + "?watch=1&fieldSelector=metadata.name%3Dlast")
	defer stop()
	large := strings.Repeat("x", 900<<10)
	for n, cut := 0, false; !cut; n++ {
		if err := c.engine.Seed(c.ctx, c.engine.Scheme().ByObject(&corev1.ConfigMap{}), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("large", n)}, Data: map[string]string{"a": large},
		}); err != nil {
			t.Fatal(err)
		}
		if n%16 == 15 { // more than the buffers hold, unless they are large
			select {
			case <-ended:
				cut = true
			case <-time.After(5 * time.Second):
			}
		}
	}
	c.configMap("last", "")
	if e := next(); e.Object.Metadata.Name != "last" {
		t.Errorf("the other watch: %+v", e)
	}
}

// stuck is a client that takes the first bytes of an answer, and no more until
// it goes.
type stuck struct {
	http.ResponseWriter
	began func()
	gone  <-chan struct{}
}

func (s *stuck) Write(b []byte) (int, error) {
	s.began()
	<-s.gone
	return 0, net.ErrClosed
}
func (s *stuck) WriteHeader(int)     {}
func (s *stuck) Header() http.Header { return http.Header{} }
func (s *stuck) FlushError() error   { return nil }

// TestSlowReadersHoldLittle has many clients ask for all there is and not take
// it: what the server keeps for each does not depend on how much that is.
func TestSlowReadersHoldLittle(t *testing.T) {
	const objects = 4000
	c := start(t)
	data := map[string]string{"a": strings.Repeat("x", 2048)}
	for n := range objects {
		if err := c.engine.Seed(c.ctx, c.engine.Scheme().ByObject(&corev1.ConfigMap{}), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("a", n)}, Data: data,
		}); err != nil {
			t.Fatal(err)
		}
	}
	// All that is kept once for everybody is there now.
	code, body := c.do("GET", configMaps, "")
	var list corev1.ConfigMapList
	if err := json.Unmarshal([]byte(body), &list); code != 200 || err != nil || len(list.Items) != objects || list.ResourceVersion == "" {
		t.Fatalf("%d, %v, %d objects at %q", code, err, len(list.Items), list.ResourceVersion)
	}
	for name, clients := range map[string]struct {
		path, accept string
		count, limit int // KB
	}{
		"watches without a revision":  {"?watch=1", "", 500, 100},
		"watches with initial events": {"?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", "", 500, 100},
		"lists":                       {"", "application/json", 60, 800},
		"lists in protobuf":           {"", "application/vnd.kubernetes.protobuf", 60, 800},
		"tables":                      {"", "application/json;as=Table;v=v1;g=meta.k8s.io", 60, 800},
		"metadata":                    {"", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", 60, 800},
	} {
		t.Run(name, func(t *testing.T) {
			before := heap()
			ctx, leave := context.WithCancel(c.ctx)
			var begun, all sync.WaitGroup
			for range clients.count {
				begun.Add(1)
				all.Go(func() {
					r := httptest.NewRequestWithContext(ctx, "GET", configMaps+clients.path, nil)
					r.Header.Set("Accept", clients.accept)
					c.server.ServeHTTP(&stuck{began: sync.OnceFunc(begun.Done), gone: ctx.Done()}, r)
				})
			}
			begun.Wait()
			each := (int64(heap()) - int64(before)) / int64(clients.count) >> 10
			leave()
			all.Wait()
			if each > int64(clients.limit) {
				t.Errorf("%d KB are kept for each of %d clients", each, clients.count)
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
