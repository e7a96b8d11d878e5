package differential

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/resource"
	"sagong/client/direct"
	"sagong/crd"
	"sagong/reconcile"
	"sagong/store"
)

const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

// define brings the kinds of testdata/definitions.txt into service. Nobody looks
// after definitions afterwards, so that cases about them are alone with them.
func (w *world) define(t *testing.T, e *resource.Engine) {
	t.Helper()
	system := direct.New(e, &user.DefaultInfo{Name: "system:apiserver", Groups: []string{user.SystemPrivilegedGroup}}, "sagong", nil)
	log := slog.New(slog.DiscardHandler)
	hub, parts := reconcile.NewHub(system, log), reconcile.NewEngine(system, log, nil)
	g := crd.NewRegistry(crd.Options{Engine: e})
	g.Follow(reconcile.ViewOf[*apiextensionsv1.CustomResourceDefinition](hub))
	if err := parts.Add(crd.NewController(hub, g)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer w.keep(t)
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = hub.Run(ctx) })
	if err := g.Synced(ctx); err != nil {
		t.Fatal(err)
	}
	running.Go(func() { _ = parts.Run(ctx) })
	for n, line := range lines(t, "testdata/definitions.txt") {
		if line == "" || line[0] == '#' {
			continue
		}
		var d apiextensionsv1.CustomResourceDefinition
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatalf("definitions.txt:%d: %v", n+1, err)
		}
		if a := w.send(request{method: "POST", path: definitions, body: line}); a.code != http.StatusCreated {
			t.Fatalf("definitions.txt:%d: %d %s", n+1, a.code, a.body)
		}
		for _, v := range d.Spec.Versions {
			gvr := d.GroupVersionKind().GroupVersion().WithResource(d.Spec.Names.Plural)
			gvr.Group, gvr.Version = d.Spec.Group, v.Name
			for v.Served {
				changed := e.Scheme().Changed()
				if e.Scheme().ByResource(gvr) != nil {
					break
				}
				<-changed
			}
		}
	}
}

// keep spares what is stored now from clear.
func (w *world) keep(t *testing.T) {
	t.Helper()
	l, err := w.store.List(t.Context(), "", store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.kept = map[string]bool{}
	for _, r := range l.Records {
		w.kept[r.Key] = true
	}
}
