package apiserver_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/features"
	featurestesting "k8s.io/client-go/features/testing"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// media notes the types of bodies in both directions.
type media struct{ asked, answered map[string]bool }

func (m media) RoundTrip(r *http.Request) (*http.Response, error) {
	if t := r.Header.Get("Content-Type"); t != "" {
		m.asked[t] = true
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		m.answered[resp.Header.Get("Content-Type")] = true
	}
	return resp, err
}

// cborConfig is that of a client which prefers CBOR.
func cborConfig(t *testing.T, url string) (*rest.Config, media) {
	featurestesting.SetFeatureDuringTest(t, features.ClientsAllowCBOR, true)
	featurestesting.SetFeatureDuringTest(t, features.ClientsPreferCBOR, true)
	m := media{map[string]bool{}, map[string]bool{}}
	return &rest.Config{Host: url, QPS: -1, Transport: m, ContentConfig: rest.ContentConfig{AcceptContentTypes: "application/cbor"}}, m
}

// TestCBORTyped: client-go's own clients speak nothing but CBOR.
func TestCBORTyped(t *testing.T) {
	c := start(t)
	config, seen := cborConfig(t, c.url)
	k, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	secrets := k.CoreV1().Secrets("default")
	data := map[string][]byte{"a": []byte("\x00\xff binary"), "b": {}}
	made, err := secrets.Create(c.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "one", Labels: map[string]string{"x": "y"}}, Data: data}, metav1.CreateOptions{})
	if err != nil || made.UID == "" || !bytes.Equal(made.Data["a"], data["a"]) || len(made.ManagedFields) != 1 || made.CreationTimestamp.IsZero() {
		t.Fatalf("%+v %v", made, err)
	}
	list, err := secrets.List(c.ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || !maps.EqualFunc(list.Items[0].Data, data, bytes.Equal) || list.ResourceVersion == "" {
		t.Fatalf("%+v %v", list, err)
	}
	w, err := secrets.Watch(c.ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	made.Data = map[string][]byte{"c": []byte("new")}
	if made, err = secrets.Update(c.ctx, made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if ev := <-w.ResultChan(); ev.Type != watch.Modified || string(ev.Object.(*corev1.Secret).Data["c"]) != "new" {
		t.Fatalf("%+v", ev)
	}
	applied, err := secrets.Apply(c.ctx, corev1apply.Secret("one", "default").WithData(map[string][]byte{"d": []byte("\xfeapplied")}), metav1.ApplyOptions{FieldManager: "me"})
	if err != nil || string(applied.Data["d"]) != "\xfeapplied" || string(applied.Data["c"]) != "new" {
		t.Fatalf("%+v %v", applied, err)
	}
	if _, err := secrets.Patch(c.ctx, "one", types.StrategicMergePatchType, []byte(`{"data":{"c":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	stale := made.DeepCopy()
	if _, err = secrets.Update(c.ctx, stale, metav1.UpdateOptions{}); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), "the object has been modified") {
		t.Fatal(err)
	}
	if err := secrets.Delete(c.ctx, "one", metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions("other")}); !apierrors.IsConflict(err) {
		t.Fatal(err)
	}
	if err := secrets.DeleteCollection(c.ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = k.CoreV1().ReplicationControllers("default").Create(c.ctx, &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: "rc"}, Spec: corev1.ReplicationControllerSpec{
		Selector: map[string]string{"a": "b"}, Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	scale, err := k.CoreV1().ReplicationControllers("default").UpdateScale(c.ctx, "rc", &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "rc", Namespace: "default"}, Spec: autoscalingv1.ScaleSpec{Replicas: 3}}, metav1.UpdateOptions{})
	if err != nil || scale.Spec.Replicas != 3 {
		t.Fatalf("%+v %v", scale, err)
	}
	if _, err := k.AuthorizationV1().SelfSubjectRulesReviews().Create(c.ctx, &authorizationv1.SelfSubjectRulesReview{}, metav1.CreateOptions{}); !apierrors.IsInvalid(err) && err != nil {
		t.Log(err) // whatever it is, it came as CBOR
	}
	for _, want := range []string{"application/cbor", "application/apply-patch+cbor"} {
		if !seen.asked[want] {
			t.Errorf("no request was of %s: %v", want, seen.asked)
		}
	}
	if want := map[string]bool{"application/cbor": true, "application/cbor-seq": true}; !maps.Equal(seen.answered, want) {
		t.Errorf("answers were of %v", seen.answered)
	}
}

// TestCBORDynamic: objects of custom kinds, lists, watches and metadata.
func TestCBORDynamic(t *testing.T) {
	c := start(t)
	if err := c.engine.Scheme().Add(widget()); err != nil {
		t.Fatal(err)
	}
	config, seen := cborConfig(t, c.url)
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	widgets := client.Resource(schema.GroupVersionResource{Group: "example.org", Version: "v1", Resource: "widgets"}).Namespace("default")
	spec := map[string]any{"size": int64(3), "part": 1.5, "names": []any{"a", nil, true}, "big": int64(1 << 60)}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.org/v1", "kind": "Widget", "metadata": map[string]any{"name": "w"}, "spec": spec}}
	made, err := widgets.Create(c.ctx, u, metav1.CreateOptions{})
	if err != nil || fmt.Sprint(made.Object["spec"]) != fmt.Sprint(spec) || made.GetUID() == "" {
		t.Fatalf("%v %v", made, err)
	}
	list, err := widgets.List(c.ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || fmt.Sprint(list.Items[0].Object["spec"]) != fmt.Sprint(spec) || list.GetKind() != "WidgetList" {
		t.Fatalf("%+v %v", list, err)
	}
	w, err := widgets.Watch(c.ctx, metav1.ListOptions{ResourceVersion: "0", AllowWatchBookmarks: true, SendInitialEvents: new(true), ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if ev := <-w.ResultChan(); ev.Type != watch.Added || ev.Object.(*unstructured.Unstructured).GetName() != "w" {
		t.Fatalf("%+v", ev)
	}
	if ev := <-w.ResultChan(); ev.Type != watch.Bookmark || ev.Object.(*unstructured.Unstructured).GetAnnotations()["k8s.io/initial-events-end"] != "true" {
		t.Fatalf("%+v", ev)
	}
	u.Object["spec"] = map[string]any{"color": "red"}
	if _, err := widgets.Apply(c.ctx, "w", u, metav1.ApplyOptions{FieldManager: "me", Force: true}); err != nil {
		t.Fatal(err)
	}
	if ev := <-w.ResultChan(); ev.Type != watch.Modified || fmt.Sprint(ev.Object.(*unstructured.Unstructured).Object["spec"].(map[string]any)["color"]) != "red" {
		t.Fatalf("%+v", ev)
	}
	if _, err := widgets.UpdateStatus(c.ctx, made, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Fatal(err)
	}
	if _, err := widgets.Get(c.ctx, "none", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	if err := widgets.Delete(c.ctx, "w", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if ev := <-w.ResultChan(); ev.Type != watch.Deleted {
		t.Fatalf("%+v", ev)
	}
	if want := map[string]bool{"application/cbor": true, "application/cbor-seq": true}; !maps.Equal(seen.answered, want) {
		t.Errorf("answers were of %v", seen.answered)
	}
	const shape = ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	c.configMap("a", `"x":"y"`)
	code, b, h := c.full("GET", "/api/v1/configmaps", "", "Accept", "application/cbor"+shape)
	var m metav1.PartialObjectMetadataList
	if err := direct.Unmarshal([]byte(b), &m); err != nil || code != 200 || h.Get("Content-Type") != "application/cbor" || m.Kind != "PartialObjectMetadataList" || len(m.Items) != 1 || m.Items[0].Labels["x"] != "y" {
		t.Fatalf("%d %v %v %+v", code, h, err, m)
	}
	// There is no table in CBOR, and who takes nothing else is told so.
	code, b, _ = c.full("GET", "/api/v1/configmaps", "", "Accept", "application/cbor;as=Table;g=meta.k8s.io;v=v1")
	if code != 406 || !strings.Contains(b, "application/vnd.kubernetes.protobuf, application/cbor") {
		t.Errorf("%d %s", code, b)
	}
}

// TestCBORBodies: what upstream says of bodies with faults.
func TestCBORBodies(t *testing.T) {
	c := start(t)
	if err := c.engine.Scheme().Add(widget()); err != nil {
		t.Fatal(err)
	}
	encode := func(v any) string {
		b, err := direct.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	type m = map[string]any
	const maps, widgets = "/api/v1/namespaces/default/configmaps", "/apis/example.org/v1/namespaces/default/widgets"
	for _, x := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"POST", maps, "", 400, "the object provided is unrecognized (must be of type ConfigMap): unable to determine group/version/kind: EOF (<empty>)"},
		{"POST", maps, "\xa1\x61", 400, "the object provided is unrecognized (must be of type ConfigMap): unable to determine group/version/kind: unexpected EOF (a161)"},
		{"POST", maps, "\xa2\x44kind\x41a\x44kind\x41b", 400, `the object provided is unrecognized (must be of type ConfigMap): unable to determine group/version/kind: cbor: found duplicate map key "kind" at map element index 1 (a2446b696e644161446b696e644162)`},
		{"POST", maps, "\x80", 400, "the object provided is unrecognized (must be of type ConfigMap): unable to determine group/version/kind: cbor: cannot unmarshal array into Go value of type v1.TypeMeta (cannot decode CBOR array to struct without toarray option) (80)"},
		{"POST", maps, "\xa1\x44kind\x01", 400, "the object provided is unrecognized (must be of type ConfigMap): unable to determine group/version/kind: cbor: cannot unmarshal positive integer into Go struct field v1.TypeMeta.kind of type string (a1446b696e6401)"},
		{"POST", maps, encode(m{"metadata": m{"name": 1}}), 400, `ConfigMap in version "v1" cannot be handled as a ConfigMap: cbor: cannot unmarshal positive integer into Go struct field v1.ConfigMap.metadata of type string`},
		{"POST", maps, encode(m{"metadata": m{"name": "a"}, "data": m{"x": 1.5}}), 400, `ConfigMap in version "v1" cannot be handled as a ConfigMap: cbor: cannot unmarshal primitives into Go struct field v1.ConfigMap.data of type string`},
		{"POST", maps, encode(m{"kind": "Secret", "apiVersion": "v1", "metadata": m{"name": "a"}}), 400, `Secret in version "v1" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion`},
		{"POST", maps + "?fieldValidation=Strict", encode(m{"foo": 1}), 400, `ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: cbor: found unknown field at map element index 0`},
		{"POST", maps + "?fieldValidation=Ignore", encode(m{"foo": 1, "metadata": m{"name": "a"}}), 201, ""},
		{"POST", maps, "\xd9\xd9\xf7" + encode(m{"metadata": m{"name": "b"}}), 201, ""},
		{"PATCH", maps + "/b?fieldManager=x", "\xa1\x61", 400, "error decoding patch: unexpected EOF"},
		{"PATCH", maps + "/b?fieldManager=x", "\xa2\x41a\x00\x41a\x00", 400, `error decoding patch: cbor: found duplicate map key "a" at map element index 1`},
		{"DELETE", maps + "/b", encode(m{"gracePeriodSeconds": "x"}), 400, "cbor: cannot unmarshal byte string into Go struct field v1.DeleteOptions.gracePeriodSeconds of type int64"},
		{"DELETE", maps + "/b", encode(m{"preconditions": m{"uid": "x"}}), 409, ""},
		{"DELETE", maps + "/b", encode(m{"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan"}), 200, ""},
		{"POST", widgets, "\x01", 400, ""},
		{"POST", widgets, "\xa1\x01\x02", 400, ""},
		{"POST", widgets + "?fieldValidation=Strict", encode(m{"apiVersion": "example.org/v1", "kind": "Widget", "metadata": m{"name": "w", "nope": 1}, "spec": m{"secret": 1}}), 400, `Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown field "metadata.nope", unknown field "spec.secret"`},
		{"POST", widgets, encode(m{"apiVersion": "example.org/v1", "kind": "Widget", "metadata": m{"name": "w", "nope": 1}, "spec": m{"secret": 1}}), 201, ""},
	} {
		contentType := "application/cbor"
		if x.method == "PATCH" {
			contentType = "application/apply-patch+cbor"
		}
		code, b, h := c.full(x.method, x.path, x.body, "Content-Type", contentType, "Accept", "application/cbor")
		var s metav1.Status
		if h.Get("Content-Type") != "application/cbor" || !strings.HasPrefix(b, "\xd9\xd9\xf7") {
			t.Errorf("%s %s %x: %v %s", x.method, x.path, x.body, h, b)
			continue
		}
		if code >= 400 {
			if err := direct.Unmarshal([]byte(b), &s); err != nil {
				t.Error(err)
			}
		}
		if code != x.code || x.want != "" && s.Message != x.want {
			t.Errorf("%s %s %x: %d %s\nwant %s", x.method, x.path, x.body, code, s.Message, x.want)
		}
	}
	_, _, h := c.full("POST", maps, encode(m{"foo": 1, "metadata": m{"name": "warned"}}), "Content-Type", "application/cbor")
	if got := h.Values("Warning"); len(got) != 1 || got[0] != `299 - "cbor: found unknown field at map element index 0"` {
		t.Errorf("%q", got)
	}
}

// TestLongListsInParts: long lists are what they were when they were made whole.
func TestLongListsInParts(t *testing.T) {
	c := start(t)
	long := strings.Repeat("line with: <signs> & \\\"quotes\\\"\\n", 300)
	for i := range 40 {
		if code, b := c.do("POST", "/api/v1/namespaces/default/configmaps", fmt.Sprintf(`{"metadata":{"name":"m%02d"},"data":{"a":"%s","empty":"\n\n  x"}}`, i, long), "Content-Type", "application/json"); code != 201 {
			t.Fatal(b)
		}
	}
	get := func(path, accept string) string {
		t.Helper()
		code, b := c.do("GET", path, "", "Accept", accept)
		if code != 200 {
			t.Fatal(b)
		}
		return age.ReplaceAllString(b, "0s")
	}
	const path = "/api/v1/configmaps"
	const table = ";as=Table;g=meta.k8s.io;v=v1"
	const partial = ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	for _, shape := range []string{"", table, partial} {
		for _, path := range []string{path, path + "?labelSelector=none"} {
			plain := get(path, "application/json"+shape)
			asYAML, err := yaml.JSONToYAML([]byte(plain))
			if err != nil {
				t.Fatal(err)
			}
			if got := get(path, "application/yaml"+shape); got != string(asYAML) {
				t.Errorf("YAML%s: %s\nwant %s", shape, got, asYAML)
			}
			pretty := get(path+strings.Replace("?pretty=1", "?", map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")], 1), "application/json"+shape)
			want := indented(t, plain)
			if pretty != want {
				t.Errorf("pretty%s: %.2000s\nwant %.2000s", shape, pretty, want)
			}
		}
	}
	whole, err := http.Get(c.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Body.Close()
	if _, err := io.Copy(io.Discard, whole.Body); err != nil || whole.ContentLength >= 0 {
		t.Errorf("the list was no long one: %d %v", whole.ContentLength, err)
	}
	var list corev1.ConfigMapList
	if err := direct.Unmarshal([]byte(get(path, "application/cbor")), &list); err != nil || len(list.Items) != 40 || list.Items[39].Name != "m39" || list.Kind != "ConfigMapList" || list.ResourceVersion == "" {
		t.Errorf("%v %d items", err, len(list.Items))
	}
}

// age is a column of tables that time changes.
var age = regexp.MustCompile(`\b\d+s\b`)

func indented(t *testing.T, s string) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, []byte(strings.TrimSuffix(s, "\n")), "", "  "); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
