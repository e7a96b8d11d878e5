package resource

import (
	"context"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// Handler serves what is not an object in the store: a subresource that does
// something, or a kind that is only created (a review). Get and Update are for
// subresources with a state of their own; each may be nil.
type Handler struct {
	// New makes an empty body; nil for a virtual kind, whose definition does.
	New    func() runtime.Object
	Create func(ctx context.Context, c Caller, t Target, body runtime.Object, o *metav1.CreateOptions) (runtime.Object, error)
	Get    func(ctx context.Context, c Caller, t Target) (runtime.Object, error)
	Update func(ctx context.Context, c Caller, t Target, body runtime.Object, o *metav1.UpdateOptions) (runtime.Object, error)
	// Present is what patches change; nil when Get says so.
	Present func(ctx context.Context, c Caller, t Target) (runtime.Object, error)
	// Admits says that Create asks admission itself.
	Admits bool
}

// Handle registers a handler for "resource" of a virtual kind or
// "resource/subresource", in a group ("" for core). It is called while the
// server is composed; a later call for the same name replaces the former.
func (e *Engine) Handle(group, name string, h Handler) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.handlers[group+"/"+name] = h
}

// Handler finds the handler of a target.
func (e *Engine) Handler(t Target) (Handler, bool) {
	name := t.Resource
	if t.Subresource != "" {
		name += "/" + t.Subresource
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	h, ok := e.handlers[t.Group+"/"+name]
	if !ok && t.Subresource == "scale" && t.Definition.Scale != nil {
		return e.scaleHandler(), true
	}
	return h, ok
}

// handleBuiltin registers the subresources the engine knows itself.
func (e *Engine) handleBuiltin() {
	e.Handle("", "pods/binding", Handler{
		New: func() runtime.Object { return &corev1.Binding{} }, Admits: true,
		Create: func(ctx context.Context, c Caller, t Target, body runtime.Object, o *metav1.CreateOptions) (runtime.Object, error) {
			return e.Bind(ctx, c, t, body.(*corev1.Binding), o)
		},
	})
	e.Handle("", "bindings", Handler{
		Create: func(ctx context.Context, c Caller, t Target, body runtime.Object, o *metav1.CreateOptions) (runtime.Object, error) {
			pods := object.Of[*corev1.Pod](e.scheme)
			b := body.(*corev1.Binding)
			return e.Bind(ctx, c, Target{Kind: e.Kind(pods), Namespace: t.Namespace, Name: b.Name, Subresource: "binding"}, b, o)
		}, Admits: true,
	})
	e.Handle("", "pods/eviction", Handler{
		New: func() runtime.Object { return &policyv1.Eviction{} },
		Create: func(ctx context.Context, c Caller, t Target, body runtime.Object, o *metav1.CreateOptions) (runtime.Object, error) {
			return e.evict(ctx, c, t, body.(*policyv1.Eviction), o)
		},
	})
}

// CreateSubresource posts a body to a subresource, or creates a virtual object
// (t without subresource). The body belongs to the engine from now on.
func (e *Engine) CreateSubresource(ctx context.Context, c Caller, t Target, body runtime.Object, o *metav1.CreateOptions) (runtime.Object, error) {
	h, ok := e.Handler(t)
	if !ok || h.Create == nil {
		return nil, apierrors.NewMethodNotSupported(t.gr(), "create")
	}
	if obj, ok := body.(object.Object); ok && t.Virtual && t.Subresource == "" {
		if err := matchNamespace(&t, obj); err != nil {
			return nil, err
		}
		if t.Default != nil {
			t.Default(obj)
		}
		if err := e.validateNew(t, obj); err != nil {
			return nil, err
		}
	}
	if !h.Admits {
		a := e.attributes(c, t, Create, body, nil, o, dryRun(o.DryRun))
		if err := e.admit(ctx, a); err != nil {
			return nil, err
		}
		if err := e.validateAdmission(ctx, a); err != nil {
			return nil, err
		}
	}
	return h.Create(ctx, c, t, body, o)
}

func (e *Engine) scaleHandler() Handler {
	return Handler{
		New: func() runtime.Object { return &autoscalingv1.Scale{} },
		Get: func(ctx context.Context, _ Caller, t Target) (runtime.Object, error) {
			_, o, err := e.read(ctx, t)
			if err != nil {
				return nil, err
			}
			return getScale(t, o)
		},
		Present: func(ctx context.Context, _ Caller, t Target) (runtime.Object, error) {
			_, o, err := e.read(ctx, t)
			if err != nil {
				return nil, err
			}
			return scaleOf(t, o)
		},
		Update: func(ctx context.Context, c Caller, t Target, body runtime.Object, o *metav1.UpdateOptions) (runtime.Object, error) {
			return e.setScale(ctx, c, t, body.(*autoscalingv1.Scale), nil, o)
		},
	}
}
