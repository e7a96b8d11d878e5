package crd_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apiserver/pkg/authentication/user"
	"sigs.k8s.io/yaml"

	"sagong/apiserver"
	"sagong/apiserver/discovery"
	"sagong/apiserver/openapi"
	"sagong/apiserver/resource"
	"sagong/client/direct"
	"sagong/crd"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
	"sagong/store"
)

// cluster is an API server with the controller of definitions.
type cluster struct {
	*testing.T
	url    string
	engine *resource.Engine
	store  *store.Local
	system *direct.Client
	crds   *crd.Registry
	ctx    context.Context
}

func start(t *testing.T) *cluster {
	t.Helper()
	return startOn(t, store.OpenMemory(store.Options{Tag: resource.Tag}), nil)
}

// startOn starts a server on a store that may hold something already.
func startOn(t *testing.T, s *store.Local, calls crd.Conversions) *cluster {
	t.Helper()
	scheme := object.NewScheme(kinds.All()...)
	e := resource.New(resource.Options{Store: s, Scheme: scheme, Fields: object.NewFieldManagers()})
	system := direct.New(e, &user.DefaultInfo{Name: "system:apiserver", Groups: []string{user.SystemPrivilegedGroup}}, "sagong", nil)
	log := slog.New(slog.DiscardHandler)
	hub := reconcile.NewHub(system, log)
	disc, docs := discovery.New(scheme, "127.0.0.1:6443"), openapi.New(scheme, "v1.37.2")
	g := crd.NewRegistry(crd.Options{Engine: e, Conversions: calls, Changed: func() { disc.Changed(); docs.Changed() }, Log: log})
	g.Follow(reconcile.ViewOf[*apiextensionsv1.CustomResourceDefinition](hub))
	parts := reconcile.NewEngine(system, log, nil)
	if err := parts.Add(crd.NewController(hub, g)); err != nil {
		t.Fatal(err)
	}
	srv := apiserver.New(apiserver.Options{Engine: e, Discovery: disc})
	srv.Handle("/openapi/", docs)
	hs := httptest.NewServer(srv)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	var running sync.WaitGroup
	running.Go(func() { _ = hub.Run(ctx) })
	if err := g.Synced(ctx); err != nil {
		t.Fatal(err)
	}
	running.Go(func() { _ = parts.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		hs.Close()
		s.Close()
	})
	return &cluster{T: t, url: hs.URL, engine: e, store: s, system: system, crds: g, ctx: ctx}
}

// answer is what a request gave.
type answer struct {
	code     int
	body     string
	warnings []string
	object   map[string]any
}

// do sends a request; a body that begins with a space or letter is YAML.
func (c *cluster) do(method, path, body string, headers ...string) answer {
	c.Helper()
	if body != "" && !strings.HasPrefix(body, "{") && !strings.HasPrefix(body, "[") {
		b, err := yaml.YAMLToJSON([]byte(body))
		if err != nil {
			c.Fatal(err)
		}
		body = string(b)
	}
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
	a := answer{code: resp.StatusCode, body: string(b), warnings: resp.Header.Values("Warning")}
	_ = json.Unmarshal(b, &a.object)
	return a
}

// want sends a request and expects a code and parts of the body.
func (c *cluster) want(code int, method, path, body string, parts ...string) answer {
	c.Helper()
	var headers []string
	if method == "PATCH" {
		headers = []string{"Content-Type", "application/merge-patch+json"}
		if strings.Contains(path, "fieldManager=") && !strings.HasPrefix(body, "{") {
			headers[1] = "application/apply-patch+yaml"
		}
	}
	a := c.do(method, path, body, headers...)
	if a.code != code {
		c.Fatalf("%s %s: %d, want %d: %s", method, path, a.code, code, a.body)
	}
	for _, p := range parts {
		lack := strings.HasPrefix(p, "!")
		if strings.Contains(a.body, strings.TrimPrefix(p, "!")) == lack {
			c.Fatalf("%s %s: want %q in\n%s", method, path, p, a.body)
		}
	}
	return a
}

func (a answer) field(path ...string) any {
	v, _, _ := unstructured.NestedFieldNoCopy(a.object, path...)
	return v
}

const crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

// define creates a definition and waits until it is established.
func (c *cluster) define(text string) string {
	c.Helper()
	a := c.want(201, "POST", crds, text)
	name := a.field("metadata", "name").(string)
	c.await(name, func(d *apiextensionsv1.CustomResourceDefinition) bool {
		return d != nil && condition(d, apiextensionsv1.Established) == "True"
	})
	return name
}

func condition(d *apiextensionsv1.CustomResourceDefinition, t apiextensionsv1.CustomResourceDefinitionConditionType) string {
	for _, c := range d.Status.Conditions {
		if c.Type == t {
			return string(c.Status)
		}
	}
	return ""
}

// await watches a definition until it is as wanted; nil stands for one that is gone.
func (c *cluster) await(name string, is func(*apiextensionsv1.CustomResourceDefinition) bool) {
	c.Helper()
	resp, err := http.Get(c.url + crds + "?watch=1&timeoutSeconds=120&fieldSelector=metadata.name=" + name)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	if c.do("GET", crds+"/"+name, "").code == 404 && is(nil) {
		return // gone before the watch began
	}
	events := json.NewDecoder(resp.Body)
	for {
		var e struct {
			Type   string
			Object *apiextensionsv1.CustomResourceDefinition
		}
		if err := events.Decode(&e); err != nil {
			c.Fatalf("%s did not become as wanted: %v", name, err)
		}
		if e.Type == "DELETED" {
			e.Object = nil
		}
		if is(e.Object) {
			return
		}
	}
}

// mustList returns the keys of all custom objects in the store.
func mustList(t *testing.T, c *cluster) (keys []string) {
	t.Helper()
	l, err := c.store.List(c.ctx, "/registry/widgets.example.org/", store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range l.Records {
		keys = append(keys, r.Key)
	}
	return keys
}

// versionsOf is the part of a definition that names versions, as JSON.
func versionsOf(t *testing.T, definition string) string {
	t.Helper()
	var d struct {
		Spec struct {
			Versions json.RawMessage `json:"versions"`
		} `json:"spec"`
	}
	b, err := yaml.YAMLToJSON([]byte(definition))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	return `{"versions":` + string(d.Spec.Versions) + `}`
}

// settle waits until what a definition says now is served.
func (c *cluster) settle(name string) {
	c.Helper()
	want := c.want(200, "GET", crds+"/"+name, "").field("metadata", "generation").(float64)
	for {
		changed := c.engine.Scheme().Changed()
		if c.crds.Generation(name) >= int64(want) {
			return
		}
		select {
		case <-changed:
		case <-c.ctx.Done():
			c.Fatalf("generation %v of %s is not served", want, name)
		}
	}
}
