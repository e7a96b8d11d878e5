package crd_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/apiserver/resource"
	"sagong/apiserver/webhookclient"
	"sagong/lib/pki"
	"sagong/store"
)

// hosts converts hostPort of v1 into host and port of v2, and back. It also puts
// a label on what it touched, which conversions may do.
func hosts(m map[string]any, to string) map[string]any {
	u := &unstructured.Unstructured{Object: m}
	u.SetAPIVersion(to)
	spec, _ := m["spec"].(map[string]any)
	if strings.HasSuffix(to, "/v2") {
		if both, ok := spec["hostPort"].(string); ok {
			spec["host"], spec["port"], _ = strings.Cut(both, ":")
			delete(spec, "hostPort")
		}
	} else if host, ok := spec["host"].(string); ok {
		spec["hostPort"] = host + ":" + spec["port"].(string)
		delete(spec, "host")
		delete(spec, "port")
	}
	u.SetLabels(map[string]string{"converted-to": to[strings.LastIndex(to, "/")+1:]})
	return m
}

// conversionWebhook is an HTTPS server that converts; spoil may change its answer.
func conversionWebhook(t *testing.T, spoil func(*apiextensionsv1.ConversionReview)) (url, bundle string, calls *atomic.Int32) {
	t.Helper()
	a, err := pki.LoadOrCreateAuthority(t.TempDir(), "ca", "hook-ca", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := a.Issue(pki.Leaf{CommonName: "hook", Addresses: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	calls = &atomic.Int32{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		var review apiextensionsv1.ConversionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			t.Error(err)
		}
		res := &apiextensionsv1.ConversionResponse{UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
		for _, o := range review.Request.Objects {
			m := map[string]any{}
			if err := json.Unmarshal(o.Raw, &m); err != nil {
				t.Error(err)
			}
			b, err := json.Marshal(hosts(m, review.Request.DesiredAPIVersion))
			if err != nil {
				t.Error(err)
			}
			res.ConvertedObjects = append(res.ConvertedObjects, runtime.RawExtension{Raw: b})
		}
		review.Request, review.Response = nil, res
		if spoil != nil {
			spoil(&review)
		}
		_ = json.NewEncoder(w).Encode(review)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair.TLS}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL, base64.StdEncoding.EncodeToString(a.CertPEM), calls
}

// gates has two versions that a webhook converts; storage says which is stored.
func gates(url, bundle, storage string) string {
	stored := func(v string) string {
		if v == storage {
			return "true"
		}
		return "false"
	}
	return `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gates.conv.example.org}
spec:
  group: conv.example.org
  scope: Namespaced
  names: {plural: gates, kind: Gate}
  conversion:
    strategy: Webhook
    webhook: {conversionReviewVersions: [v1], clientConfig: {url: "` + url + `", caBundle: ` + bundle + `}}
  versions:
  - name: v1
    served: true
    storage: ` + stored("v1") + `
    selectableFields: [{jsonPath: .spec.hostPort}]
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {hostPort: {type: string}}}}}}
  - name: v2
    served: true
    storage: ` + stored("v2") + `
    selectableFields: [{jsonPath: .spec.host}]
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {host: {type: string}, port: {type: string, default: "80"}}}}}}
`
}

const (
	gates1 = "/apis/conv.example.org/v1/namespaces/default/gates"
	gates2 = "/apis/conv.example.org/v2/namespaces/default/gates"
)

func withWebhooks(t *testing.T) *cluster {
	return startOn(t, store.OpenMemory(store.Options{Tag: resource.Tag}), webhookclient.New(nil, nil))
}

// conformance: [sig-api-machinery] CustomResourceConversionWebhook should be able to convert from CR v1 to CR v2
func TestConvertFromV1ToV2(t *testing.T) {
	c := withWebhooks(t)
	url, bundle, calls := conversionWebhook(t, nil)
	c.define(gates(url, bundle, "v1"))
	c.want(201, "POST", gates1, `{"apiVersion":"conv.example.org/v1","kind":"Gate","metadata":{"name":"a"},"spec":{"hostPort":"h:1"}}`, `"hostPort":"h:1"`)
	if n := calls.Load(); n != 0 {
		t.Errorf("%d calls for a request in the stored version", n)
	}
	c.want(200, "GET", gates2+"/a", "", `"apiVersion":"conv.example.org/v2"`, `"host":"h"`, `"port":"1"`, `!"hostPort":`, `"converted-to":"v2"`)
	c.want(200, "PATCH", gates2+"/a", `{"spec":{"host":"other"}}`, `"host":"other"`, `"generation":2`)
	c.want(200, "GET", gates1+"/a", "", `"hostPort":"other:1"`, `"generation":2`)
	c.want(200, "PATCH", gates2+"/a?fieldManager=me&force=true", "apiVersion: conv.example.org/v2\nkind: Gate\nmetadata: {name: a}\nspec: {port: '9'}\n", `"host":"other"`, `"port":"9"`)
	c.want(200, "GET", gates1+"/a", "", `"hostPort":"other:9"`)
}

// conformance: [sig-api-machinery] CustomResourceConversionWebhook should be able to convert a non homogeneous list of CRs
func TestConvertMixedList(t *testing.T) {
	c := withWebhooks(t)
	url, bundle, _ := conversionWebhook(t, nil)
	name := c.define(gates(url, bundle, "v1"))
	c.want(201, "POST", gates1, `{"apiVersion":"conv.example.org/v1","kind":"Gate","metadata":{"name":"a"},"spec":{"hostPort":"h:1"}}`)
	c.want(200, "PATCH", crds+"/"+name, `{"spec":`+versionsOf(t, gates(url, bundle, "v2"))+`}`, `"storedVersions":["v1","v2"]`)
	c.settle(name)
	c.want(201, "POST", gates2, `{"apiVersion":"conv.example.org/v2","kind":"Gate","metadata":{"name":"b"},"spec":{"host":"g"}}`, `"port":"80"`)
	c.want(200, "GET", gates2, "", `"host":"h","port":"1"`, `"host":"g","port":"80"`, `!"hostPort":`)
	c.want(200, "GET", gates1, "", `"hostPort":"h:1"`, `"hostPort":"g:80"`)
	stored, err := c.store.List(c.ctx, "/registry/gates.conv.example.org/", store.ListOptions{})
	if err != nil || len(stored.Records) != 2 {
		t.Fatal(len(stored.Records), err)
	}
}

// TestConvertManyAtOnce counts the calls for lists and the beginnings of watches,
// whatever their form.
func TestConvertManyAtOnce(t *testing.T) {
	const objects = 520
	c := withWebhooks(t)
	url, bundle, calls := conversionWebhook(t, nil)
	c.define(gates(url, bundle, "v1"))
	for n := range objects {
		c.want(201, "POST", gates1, fmt.Sprintf(`{"apiVersion":"conv.example.org/v1","kind":"Gate","metadata":{"name":"g%d","labels":{"n":"%d"}},"spec":{"hostPort":"h:%d"}}`, n, n%2, n))
	}
	for n, want := range []struct {
		query, accept string
		count         int
	}{
		{"", "application/json", objects},
		{"?fieldSelector=spec.host%3Dh", "application/json", objects},
		{"?labelSelector=converted-to%3Dv2", "application/json", objects}, // as the converted object has them
		{"?limit=10", "application/json", 10},
		{"?resourceVersion=0", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", objects},
		{"?timeoutSeconds=1&watch=true", "application/json", objects},
	} {
		query := want.query
		before := calls.Load()
		got := c.do("GET", gates2+query, "", "Accept", want.accept)
		if n := strings.Count(got.body, `"converted-to":"v2"`); got.code != 200 || want.count > 0 && n != want.count {
			t.Errorf("%s: %d, %d converted objects, want %d", query, got.code, n, want.count)
		}
		// Two for the first list, and none for objects that are what they were.
		if got := calls.Load() - before; n == 0 && got != 2 || n > 0 && got != 0 {
			t.Errorf("%s: %d calls", query, got)
		}
	}
	before := calls.Load()
	resp, err := http.Get(c.url + gates2 + "?watch=true")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for n := range objects {
		if !lines.Scan() || !strings.Contains(lines.Text(), `"converted-to":"v2"`) {
			t.Fatalf("event %d: %s", n, lines.Text())
		}
	}
	if n := calls.Load() - before; n != 0 {
		t.Errorf("a watch began with %d calls", n)
	}
	// What changed is asked for, by one call; another webhook is asked for all.
	c.want(200, "PATCH", gates1+"/g7", `{"spec":{"hostPort":"new:7"}}`)
	if !lines.Scan() || !strings.Contains(lines.Text(), `"host":"new"`) {
		t.Errorf("event %s", lines.Text())
	}
	c.want(200, "GET", gates2, "", `"host":"new"`)
	if n := calls.Load() - before; n != 1 {
		t.Errorf("%d calls for one changed object", n)
	}
	other, bundle, calls := conversionWebhook(t, nil)
	name := "gates.conv.example.org"
	c.want(200, "PATCH", crds+"/"+name, fmt.Sprintf(`{"spec":{"conversion":{"webhook":{"clientConfig":{"url":%q,"caBundle":%q}}}}}`, other, bundle))
	c.settle(name)
	c.want(200, "GET", gates2, "", `"host":"new"`)
	if n := calls.Load(); n != 2 {
		t.Errorf("%d calls of the new webhook", n)
	}
}

// What a webhook may not do, and what it says when it cannot convert.
func TestConversionFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(*apiextensionsv1.ConversionReview)
		want  string
	}{
		"refused": {func(r *apiextensionsv1.ConversionReview) {
			r.Response.Result = metav1.Status{Status: "Failure", Message: "no way"}
		}, "conversion webhook for conv.example.org/v1, Kind=Gate failed: no way"},
		"other answer": {func(r *apiextensionsv1.ConversionReview) { r.Response.UID = "x" }, `expected response.uid=`},
		"other name": {func(r *apiextensionsv1.ConversionReview) {
			r.Response.ConvertedObjects[0].Raw = []byte(strings.Replace(string(r.Response.ConvertedObjects[0].Raw), `"name":"a"`, `"name":"b"`, 1))
		}, "must have the same name: a != b"},
		"other version": {func(r *apiextensionsv1.ConversionReview) {
			r.Response.ConvertedObjects[0].Raw = []byte(strings.Replace(string(r.Response.ConvertedObjects[0].Raw), "org/v2", "org/v3", 1))
		}, "invalid groupVersion (expected conv.example.org/v2, received conv.example.org/v3)"},
		"nothing": {func(r *apiextensionsv1.ConversionReview) { r.Response.ConvertedObjects = nil }, "returned 0 objects, expected 1"},
		"null": {func(r *apiextensionsv1.ConversionReview) {
			r.Response.ConvertedObjects[0].Raw = []byte("null")
		}, "conversion webhook for"},
		"bad label": {func(r *apiextensionsv1.ConversionReview) {
			r.Response.ConvertedObjects[0].Raw = []byte(strings.Replace(string(r.Response.ConvertedObjects[0].Raw), `"converted-to":"v2"`, `"-":"v2"`, 1))
		}, "returned invalid metadata: metadata.labels"},
	} {
		t.Run(name, func(t *testing.T) {
			c := withWebhooks(t)
			url, bundle, _ := conversionWebhook(t, tc.spoil)
			c.define(gates(url, bundle, "v1"))
			c.want(201, "POST", gates1, `{"apiVersion":"conv.example.org/v1","kind":"Gate","metadata":{"name":"a"},"spec":{"hostPort":"h:1"}}`)
			c.want(500, "GET", gates2+"/a", "", strings.ReplaceAll(tc.want, `"`, `\"`))
			c.want(200, "GET", gates1+"/a", "", "h:1")
		})
	}
}

// Defaults are those of the stored version: what a webhook made of an object is
// not filled up, neither when it is read nor in answers to writes.
func TestConvertedDefaults(t *testing.T) {
	c := withWebhooks(t)
	url, bundle, _ := conversionWebhook(t, nil)
	c.define(strings.Replace(gates(url, bundle, "v1"), "host: {type: string}, ", "host: {type: string}, kind: {type: string, default: wide}, ", 1))
	const a = `{"apiVersion":"conv.example.org/v2","kind":"Gate","metadata":{"name":"a"},"spec":{"host":"h"}}`
	c.want(201, "POST", gates2+"?dryRun=All", a, `"port":"80"`, `!"kind":"wide"`)
	c.want(201, "POST", gates2, a, `"port":"80"`, `!"kind":"wide"`, `"converted-to":"v2"`)
	c.want(200, "GET", gates2+"/a", "", `!"kind":"wide"`)
	c.want(200, "GET", gates2, "", `!"kind":"wide"`)
	c.want(200, "PATCH", gates2+"/a", `{"spec":{"host":"other"}}`, `"host":"other"`, `!"kind":"wide"`)
	c.want(200, "PATCH", gates2+"/a?fieldManager=me&force=true", "apiVersion: conv.example.org/v2\nkind: Gate\nmetadata: {name: a}\nspec: {port: '9'}\n", `"port":"9"`, `!"kind":"wide"`)
	c.want(200, "GET", gates1+"/a", "", `"hostPort":"other:9"`)
}

// What cannot be stored or read because of its conversion, in upstream's words.
func TestUnconvertible(t *testing.T) {
	c := withWebhooks(t)
	url, bundle, _ := conversionWebhook(t, func(r *apiextensionsv1.ConversionReview) { r.Response.ConvertedObjects = nil })
	c.define(gates(url, bundle, "v1"))
	c.want(500, "POST", gates2, `{"apiVersion":"conv.example.org/v2","kind":"Gate","metadata":{"name":"b"},"spec":{"host":"h"}}`,
		`"message":"conversion webhook for conv.example.org/v2, Kind=Gate returned 0 objects, expected 1","code":500`)
	rv := c.want(201, "POST", gates1, `{"apiVersion":"conv.example.org/v1","kind":"Gate","metadata":{"name":"a"},"spec":{"hostPort":"h:1"}}`).field("metadata", "resourceVersion")
	c.want(500, "GET", gates2+"/a", "", fmt.Sprintf(`"message":"Internal error occurred: StorageError: corrupt object, Code: 7, Key: /conv.example.org/gates/default/a, ResourceVersion: 0, AdditionalErrorMsg: object not decodable revision=%v: conversion webhook for conv.example.org/v1, Kind=Gate returned 0 objects, expected 1"`, rv))
}
