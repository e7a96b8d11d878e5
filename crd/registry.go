package crd

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"sync"

	"go.opentelemetry.io/otel/trace"
	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"sagong/apiserver/resource"
	"sagong/object"
	"sagong/reconcile"
)

// Options say what a Registry is made of.
type Options struct {
	Engine *resource.Engine
	// Conversions calls conversion webhooks; nil makes those conversions fail.
	Conversions Conversions
	// Tracer traces these calls, each by itself; nil for none.
	Tracer trace.Tracer
	// Changed is called after the kinds in the scheme changed: documents about
	// them are stale. It must be quick.
	Changed func()
	Log     *slog.Logger
}

// Registry serves the kinds of all established definitions. All methods may be
// called at the same time.
type Registry struct {
	Options
	view  *reconcile.View[*apiextensionsv1.CustomResourceDefinition]
	mu    sync.Mutex
	kinds map[string]*kind // by the definition's name
	known converted
}

func (g *Registry) webhooks() webhooks { return webhooks{g.Conversions, &g.known, g.Tracer} }

// NewRegistry makes a registry that serves nothing yet.
func NewRegistry(o Options) *Registry {
	if o.Changed == nil {
		o.Changed = func() {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Registry{Options: o, kinds: map[string]*kind{}}
}

// Follow keeps the kinds up to date with the definitions in view, wherever they
// were changed. Call it once.
func (g *Registry) Follow(v *reconcile.View[*apiextensionsv1.CustomResourceDefinition]) {
	g.view = v
	v.OnChange(g.follow)
}

// Synced waits until what is established already is served. A server calls it
// before it lets anybody in.
func (g *Registry) Synced(ctx context.Context) error {
	if err := g.view.Need(ctx); err != nil {
		return fmt.Errorf("cannot read the definitions of kinds: %w", err)
	}
	return nil
}

func (g *Registry) follow(old, crd *apiextensionsv1.CustomResourceDefinition) {
	if crd == nil {
		g.remove(old.Name)
		return
	}
	if !apihelpers.IsCRDConditionTrue(crd, apiextensionsv1.Established) {
		return // the controller serves it before it says so
	}
	if err := g.serve(crd, crd.Status.AcceptedNames); err != nil {
		g.Log.Error("cannot serve a custom resource", "definition", crd.Name, "err", err)
	}
}

// serve puts a definition's kind into the scheme, in the place of what it was
// before. Nothing happens when that is the same.
func (g *Registry) serve(crd *apiextensionsv1.CustomResourceDefinition, names apiextensionsv1.CustomResourceDefinitionNames) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.kinds[crd.Name]
	if was != nil && was.serves(crd, names) {
		return nil
	}
	k := newKind(crd, names, g.webhooks())
	if k.storage == nil {
		return fmt.Errorf("definition %s has no storage version", crd.Name)
	}
	var old *object.Definition
	if was != nil {
		old = was.row
	}
	if err := g.Engine.Scheme().Replace(old, k.row); err != nil {
		k.end()
		return err
	}
	g.kinds[crd.Name] = k
	g.drop(was)
	g.Changed()
	return nil
}

func (g *Registry) remove(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.kinds[name]
	if was == nil {
		return
	}
	delete(g.kinds, name)
	if was.row != nil {
		g.Engine.Scheme().Remove(was.row)
	}
	g.drop(was)
	g.Changed()
}

// drop ends the watches of a kind that is no longer served.
func (g *Registry) drop(k *kind) {
	if k == nil {
		return
	}
	k.end()
	if w, ok := k.convert.(*webhook); ok {
		g.known.forget(w)
	}
	if k.row != nil {
		g.Engine.Forget(k.row)
	}
}

// stored is a definition by which the objects of a kind can be read and deleted,
// whether it is served or not.
func (g *Registry) stored(crd *apiextensionsv1.CustomResourceDefinition) (*object.Definition, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	k := g.kinds[crd.Name]
	if k == nil {
		k = newKind(crd, crd.Status.AcceptedNames, g.webhooks())
		defer k.end()
	}
	if k.row != nil {
		return k.row, nil
	}
	if k.storage == nil {
		return nil, fmt.Errorf("definition %s has no storage version", crd.Name)
	}
	return k.storage.def, nil
}

// serves reports whether a kind is what a definition demands.
func (k *kind) serves(crd *apiextensionsv1.CustomResourceDefinition, names apiextensionsv1.CustomResourceDefinitionNames) bool {
	terminating := func(c *apiextensionsv1.CustomResourceDefinition) bool {
		return apihelpers.IsCRDConditionTrue(c, apiextensionsv1.Terminating)
	}
	return k.crd.UID == crd.UID && terminating(k.crd) == terminating(crd) && reflect.DeepEqual(k.names, names) &&
		(k.crd.Generation == crd.Generation || reflect.DeepEqual(k.crd.Spec, crd.Spec))
}
