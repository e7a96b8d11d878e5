package compose

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/apiserver"
	"sagong/kinds"
	"sagong/object"
)

func TestClientsCannotGrowTheLabels(t *testing.T) {
	m := newMetrics(object.NewScheme(kinds.All()...))
	series := func() int {
		families, err := m.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, f := range families {
			n += len(f.Metric)
		}
		return n
	}
	pods := apiserver.Info{Resource: true, Verb: "get", GV: schema.GroupVersion{Version: "v1"}, Plural: "pods", Namespace: "a", Name: "b", Subresource: "log"}
	get := httptest.NewRequest("GET", "/", nil)
	m.Request(&pods, get, apiserver.End{Code: 200, Took: time.Second, Bytes: 10})
	for _, x := range []struct {
		r    *http.Request
		info apiserver.Info
		want requestLabels
	}{
		{get, pods, requestLabels{"CONNECT", "", "", "v1", "pods", "log", "resource", "apiserver"}},
		{httptest.NewRequest("POST", "/?dryRun=All", nil), apiserver.Info{Resource: true, Verb: "create", GV: schema.GroupVersion{Version: "v1"}, Plural: "pods", Namespace: "a"}, requestLabels{"POST", "All", "", "v1", "pods", "", "resource", "apiserver"}},
		{httptest.NewRequest("GET", "/?dryRun=x", nil), apiserver.Info{Resource: true, Verb: "list", GV: schema.GroupVersion{Group: "apps", Version: "v1"}, Plural: "deployments", Namespace: "a"}, requestLabels{"LIST", "invalid", "apps", "v1", "deployments", "", "namespace", "apiserver"}},
		{get, apiserver.Info{Resource: true, Verb: "watch", GV: schema.GroupVersion{Version: "v1"}, Plural: "nodes"}, requestLabels{"WATCH", "", "", "v1", "nodes", "", "cluster", "apiserver"}},
		{httptest.NewRequest("DELETE", "/", nil), apiserver.Info{Resource: true, Verb: "deletecollection", GV: schema.GroupVersion{Version: "v1"}, Plural: "nodes"}, requestLabels{"DELETE", "", "", "v1", "nodes", "", "cluster", "apiserver"}},
		{get, apiserver.Info{Verb: "get", Path: "/livez"}, requestLabels{verb: "GET"}},
	} {
		if got, _ := m.labels(&x.info, x.r); got != x.want {
			t.Errorf("labels %q, want %q", got, x.want)
		}
	}
	invent := func(i int) {
		s := fmt.Sprint("made-up-", i)
		for _, code := range []int{403, 404} {
			m.Request(&apiserver.Info{Resource: true, Verb: s, GV: schema.GroupVersion{Group: s, Version: s}, Plural: s, Name: s, Subresource: s}, httptest.NewRequest(s, "/?dryRun="+s, nil), apiserver.End{Code: code, Took: time.Second, Bytes: 1, Terminated: true})
			m.Request(&apiserver.Info{Resource: true, Verb: "get", GV: schema.GroupVersion{Version: "v1"}, Plural: "pods", Name: s, Subresource: s}, get, apiserver.End{Code: code, Took: time.Second, Bytes: 1, Terminated: true})
		}
		m.Watching(&apiserver.Info{Resource: true, Verb: "watch", GV: schema.GroupVersion{Group: s}, Plural: s}, get, 1)
	}
	invent(0)
	before := series()
	for i := range 50 {
		invent(i)
	}
	if after := series(); after != before {
		t.Errorf("%d series became %d", before, after)
	}
}

// The time that a service level counts is the server's own: not that of queues
// and webhooks, and not that of dry runs.
func TestOwnTime(t *testing.T) {
	m := newMetrics(object.NewScheme(kinds.All()...))
	i := apiserver.Info{Resource: true, Verb: "create", GV: schema.GroupVersion{Version: "v1"}, Plural: "pods", Namespace: "a"}
	m.Request(&i, httptest.NewRequest("POST", "/", nil), apiserver.End{Code: 504, Took: 9 * time.Second, Elsewhere: 8 * time.Second, Terminated: true})
	m.Request(&i, httptest.NewRequest("POST", "/?dryRun=All", nil), apiserver.End{Code: 201, Took: 9 * time.Second})
	w := httptest.NewRecorder()
	m.handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	const labels = `component="apiserver",group="",resource="pods",scope="resource",subresource="",verb="POST",version="v1"`
	for _, line := range []string{
		`apiserver_request_sli_duration_seconds_sum{` + labels + `} 1`, `apiserver_request_sli_duration_seconds_count{` + labels + `} 1`,
		`apiserver_request_terminations_total{code="504",` + labels + `} 1`,
	} {
		if !strings.Contains(w.Body.String(), "\n"+line+"\n") {
			t.Errorf("no %s", line)
		}
	}
}

// TestHealthAlone: /metrics/slis has what health checks came to and nothing else.
func TestHealthAlone(t *testing.T) {
	m := newMetrics(object.NewScheme(kinds.All()...))
	m.Checked("livez", "ping", true)
	w := httptest.NewRecorder()
	m.slis().ServeHTTP(w, httptest.NewRequest("GET", "/metrics/slis", nil))
	for line := range strings.Lines(w.Body.String()) {
		if !strings.Contains(line, "kubernetes_healthcheck") {
			t.Errorf("%q", line)
		}
	}
	for _, want := range []string{`kubernetes_healthcheck{name="ping",type="livez"} 1`, `kubernetes_healthchecks_total{name="ping",status="success",type="livez"} 1`} {
		if !strings.Contains(w.Body.String(), want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
}
