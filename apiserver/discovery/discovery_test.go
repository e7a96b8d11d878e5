package discovery

import (
	"encoding/json"
	"math/rand/v2"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/features"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

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
		if w.Header().Get("Content-Type") != "application/json"+asWhole || w.Header().Get("ETag") == "" {
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

// TestAsRecorded: the order of groups and resources, hashes and kinds are those of
// upstream's own records (api/discovery of kubernetes/kubernetes).
func TestAsRecorded(t *testing.T) {
	d := New(object.NewScheme(append(kinds.All(), kinds.Workloads()...)...), "192.0.2.1:6443")
	d.Include(func() []Foreign {
		return []Foreign{
			{Group: "first.example.com", Version: "v1", GroupPriority: 20000, VersionPriority: 10},
			{Group: "b.example.com", Version: "v1", GroupPriority: 1000, VersionPriority: 10},
			{Group: "a.example.com", Version: "v1", GroupPriority: 1000, VersionPriority: 10, Resources: []Resource{{Name: "things", Kind: "Thing"}}},
		}
	})
	const order = "apiregistration.k8s.io first.example.com apps events.k8s.io authentication.k8s.io authorization.k8s.io autoscaling batch " +
		"certificates.k8s.io networking.k8s.io policy rbac.authorization.k8s.io storage.k8s.io admissionregistration.k8s.io apiextensions.k8s.io " +
		"scheduling.k8s.io coordination.k8s.io node.k8s.io discovery.k8s.io resource.k8s.io flowcontrol.apiserver.k8s.io storagemigration.k8s.io " +
		"a.example.com b.example.com metrics.k8s.io"
	var groups metav1.APIGroupList
	get(t, d, "/apis", "application/json", &groups)
	var names []string
	for _, g := range groups.Groups {
		names = append(names, g.Name)
	}
	if got := strings.Join(names, " "); got != order {
		t.Errorf("groups\n%s\nwant\n%s", got, order)
	}
	var whole apidiscoveryv2.APIGroupDiscoveryList
	get(t, d, "/apis", "application/json"+asWhole, &whole)
	names = nil
	kindsOf := map[string]metav1.GroupVersionKind{}
	for _, g := range whole.Items {
		names = append(names, g.Name)
		for _, r := range g.Versions[0].Resources {
			kindsOf[r.Resource] = *r.ResponseKind
			for _, s := range r.Subresources {
				kindsOf[r.Resource+"/"+s.Subresource] = *s.ResponseKind
			}
		}
	}
	if got := strings.Join(names, " "); got != order {
		t.Errorf("groups, aggregated\n%s\nwant\n%s", got, order)
	}
	for name, want := range map[string]metav1.GroupVersionKind{
		"deployments": {Kind: "Deployment"}, "deployments/status": {Kind: "Deployment"}, "deployments/scale": {Group: "autoscaling", Version: "v1", Kind: "Scale"}, "things": {Kind: "Thing"},
	} {
		if kindsOf[name] != want {
			t.Errorf("%s: %v", name, kindsOf[name])
		}
	}
	var core metav1.APIResourceList
	get(t, d, "/api/v1", "application/json", &core)
	var lines []string
	for _, r := range core.APIResources {
		if !strings.Contains(r.Name, "/") {
			lines = append(lines, strings.TrimSpace(r.Name+" "+r.StorageVersionHash))
		}
	}
	const want = `bindings
componentstatuses
configmaps qFsyl6wFWjQ=
endpoints fWeeMqaN/OA=
events r2yiGXH7wu8=
limitranges EBKMFVe6cwo=
namespaces Q3oi5N2YM8M=
nodes XwShjMxG9Fs=
persistentvolumeclaims QWTyNDq0dC4=
persistentvolumes HN/zwEC+JgM=
pods xPOwRZ+Yhw8=
podtemplates LIXB2x4IFpk=
replicationcontrollers Jond2If31h0=
resourcequotas 8uhSgffRX6w=
secrets S6u1pOWzb84=
serviceaccounts pbx9ZvyFpBE=
services 0/CO1lhkEBI=`
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("/api/v1\n%s", got)
	}
}

// TestForms: documents come in every form, chosen as upstream's handlers choose.
func TestForms(t *testing.T) {
	gate := string(features.CBORServingAndStorage)
	if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(map[string]bool{gate: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = utilfeature.DefaultMutableFeatureGate.SetFromMap(map[string]bool{gate: false}) })
	codecs := serializer.NewCodecFactory(scheme.Scheme, serializer.WithSerializer(cbor.NewSerializerInfo))
	d := New(object.NewScheme(kinds.All()...), "192.0.2.1:6443")
	random := rand.New(rand.NewPCG(3, 4))
	pick := func(s ...string) string { return s[random.IntN(len(s))] }
	headers := []string{"", "application/json, application/json" + asWhole, "text/html", "application/cbor" + asWhole + ",application/json"}
	for range 3000 {
		var clauses []string
		for range 1 + random.IntN(3) {
			c := pick("application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor", "*/*", "application/*", "text/plain")
			for range random.IntN(3) {
				c += pick(asWhole, ";as=APIGroupDiscoveryList", ";g=apidiscovery.k8s.io", ";v=v2", ";as=Table;g=meta.k8s.io;v=v1", ";q=0.5", ";stream=watch", ";sv=v1", ";profile=nopeer")
			}
			clauses = append(clauses, c)
		}
		headers = append(headers, strings.Join(clauses, ","))
	}
	for _, accept := range headers {
		for _, path := range []string{"/apis", "/apis/apps"} {
			var restrict negotiation.EndpointRestrictions = negotiation.DefaultEndpointRestrictions
			if m, ok := negotiation.NegotiateMediaTypeOptions(accept, codecs.SupportedMediaTypes(), wholeOnly{}); ok && path == "/apis" && m.Convert != nil {
				restrict = wholeOnly{}
			}
			r := httptest.NewRequest("GET", path, nil)
			r.Header.Set("Accept", accept)
			m, info, err := negotiation.NegotiateOutputMediaType(r, codecs, restrict)
			want := "none"
			if err == nil {
				if want = info.MediaType; m.Convert != nil {
					want += asWhole
				}
			}
			_, got, _, ok := negotiate(accept, path == "/apis")
			if !ok {
				got = "none"
			}
			if got != want {
				t.Fatalf("%s, %q: %s\nwant %s", path, accept, got, want)
			}
		}
	}
	var refused metav1.Status
	if w := get(t, d, "/apis", "text/html", &refused); w.Code != 406 || refused.Message != "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf, application/cbor" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, path := range []string{"/api", "/apis", "/apis/apps", "/apis/apps/v1", "/api#", "/apis#"} {
		path, whole := strings.CutSuffix(path, "#")
		as := ""
		if whole {
			as = asWhole
		}
		var want, got any
		get(t, d, path, "application/json"+as, &want)
		if err := yaml.Unmarshal(get(t, d, path, "application/yaml"+as, nil).Body.Bytes(), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("YAML of %s: %v %v", path, err, got)
		}
		b, err := object.CBORToJSON(get(t, d, path, "application/cbor"+as, nil).Body.Bytes())
		if err != nil || json.Unmarshal(b, &got) != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("CBOR of %s: %v %v", path, err, got)
		}
		into := map[string]runtime.Object{"/api": &metav1.APIVersions{}, "/apis": &metav1.APIGroupList{}, "/apis/apps": &metav1.APIGroup{}, "/apis/apps/v1": &metav1.APIResourceList{}}[path]
		if whole {
			into = &apidiscoveryv2.APIGroupDiscoveryList{}
		}
		if _, err := object.DecodeInto(into, get(t, d, path, "application/vnd.kubernetes.protobuf"+as, nil).Body.Bytes(), object.Protobuf, false); err != nil {
			t.Errorf("protobuf of %s: %v", path, err)
		}
	}
}

// wholeOnly allows what upstream allows who asks for the aggregated form.
type wholeOnly struct{}

func (wholeOnly) AllowsMediaTypeTransform(_, _ string, as *schema.GroupVersionKind) bool {
	return as != nil && *as == schema.GroupVersionKind{Group: "apidiscovery.k8s.io", Version: "v2", Kind: "APIGroupDiscoveryList"}
}
func (wholeOnly) AllowsServerVersion(string) bool  { return false }
func (wholeOnly) AllowsStreamSchema(s string) bool { return s == "watch" }
