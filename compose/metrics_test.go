package compose

import (
	"fmt"
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
	m.Request(&pods, 200, time.Second, 10)
	want := []string{"GET", "", "v1", "pods", "log", "resource"}
	if got := m.labels(&pods); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("labels %q, want %q", got, want)
	}
	invent := func(i int) {
		s := fmt.Sprint("made-up-", i)
		for _, code := range []int{403, 404} {
			m.Request(&apiserver.Info{Resource: true, Verb: s, GV: schema.GroupVersion{Group: s, Version: s}, Plural: s, Name: s, Subresource: s}, code, time.Second, 1)
			m.Request(&apiserver.Info{Resource: true, Verb: "get", GV: schema.GroupVersion{Version: "v1"}, Plural: "pods", Name: s, Subresource: s}, code, time.Second, 1)
		}
		m.Watching(&apiserver.Info{Resource: true, Verb: "watch", GV: schema.GroupVersion{Group: s}, Plural: s}, 1)
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
