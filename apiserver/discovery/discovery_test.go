package discovery

import (
	"encoding/json"
	"net/http/httptest"
	"slices"
	"testing"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/kinds"
	"sagong/object"
)

func get(t *testing.T, d *Discovery, path, accept string, into any) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatalf("%s: %d %v %s", path, w.Code, err, w.Body)
		}
	}
	return w
}

// Old and aggregated documents must list the same resources: clients of either
// kind see one API.
// conformance: [sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface [Conformance]
// conformance: [sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers [Conformance]
// conformance: [sig-api-machinery] Discovery should locate the groupVersion and a resource within each APIGroup [Conformance]
func TestBothFormsSayTheSame(t *testing.T) {
	d := New(object.NewScheme(kinds.All()...), "192.0.2.1:6443")
	aggregated := map[string][]string{}
	for _, root := range []string{"/api", "/apis"} {
		var list apidiscoveryv2.APIGroupDiscoveryList
		w := get(t, d, root, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json", &list)
		if w.Header().Get("Content-Type") != aggregatedType || w.Header().Get("ETag") == "" {
			t.Errorf("%s: headers %v", root, w.Header())
		}
		for _, g := range list.Items {
			for _, v := range g.Versions {
				path := "/apis/" + g.Name + "/" + v.Version
				if g.Name == "" {
					path = "/api/" + v.Version
				}
				for _, r := range v.Resources {
					aggregated[path] = append(aggregated[path], r.Resource)
					for _, s := range r.Subresources {
						aggregated[path] = append(aggregated[path], r.Resource+"/"+s.Subresource)
					}
				}
			}
		}
	}
	for path, want := range aggregated {
		var list metav1.APIResourceList
		get(t, d, path, "application/json", &list)
		var have []string
		for _, r := range list.APIResources {
			have = append(have, r.Name)
		}
		slices.Sort(have)
		slices.Sort(want)
		if !slices.Equal(have, want) {
			t.Errorf("%s lists %v, the aggregated document %v", path, have, want)
		}
	}
	for _, needed := range []string{"pods", "pods/status", "pods/log", "serviceaccounts/token"} {
		if !slices.Contains(aggregated["/api/v1"], needed) {
			t.Errorf("/api/v1 lacks %s", needed)
		}
	}
	if w := get(t, d, "/apis/nothing.example", "*/*", nil); w.Code != 404 {
		t.Errorf("an unknown group: %d", w.Code)
	}
}

// conformance: [sig-api-machinery] Discovery should validate PreferredVersion for each APIGroup [Conformance]
func TestPreferredVersionIsTheNewest(t *testing.T) {
	d := New(object.NewScheme(kinds.All()...), "192.0.2.1:6443")
	var g metav1.APIGroup
	get(t, d, "/apis/autoscaling", "*/*", &g)
	if g.PreferredVersion.Version != "v2" || len(g.Versions) != 2 {
		t.Errorf("autoscaling: %+v", g)
	}
}
