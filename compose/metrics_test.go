package compose

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/apiserver"
	"sagong/kinds"
	"sagong/object"
)

func TestClientsCannotGrowTheLabels(t *testing.T) {
	m, err := newMetrics(object.NewScheme(kinds.All()...))
	if err != nil {
		t.Fatal(err)
	}
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
	m.Request(&pods, get, 200, time.Second, 10)
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
			m.Request(&apiserver.Info{Resource: true, Verb: s, GV: schema.GroupVersion{Group: s, Version: s}, Plural: s, Name: s, Subresource: s}, httptest.NewRequest(s, "/?dryRun="+s, nil), code, time.Second, 1)
			m.Request(&apiserver.Info{Resource: true, Verb: "get", GV: schema.GroupVersion{Version: "v1"}, Plural: "pods", Name: s, Subresource: s}, get, code, time.Second, 1)
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
