package policy

import (
	"context"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// status writes into a policy's status what type checking found.
type status struct {
	checker
	view *reconcile.View[*admissionregistrationv1.ValidatingAdmissionPolicy]
}

// NewStatus makes the controller of the status of ValidatingAdmissionPolicies.
func NewStatus(h *reconcile.Hub, s Schemas) reconcile.Controller {
	return &status{checker{h.Client().Scheme(), s}, reconcile.ViewOf[*admissionregistrationv1.ValidatingAdmissionPolicy](h)}
}

func (*status) Name() string { return "validatingadmissionpolicy-status" }

func (s *status) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.On(s.view, func(_, p *admissionregistrationv1.ValidatingAdmissionPolicy, enqueue func(object.Key)) {
		if p != nil && p.Status.ObservedGeneration != p.Generation {
			enqueue(object.KeyOf(p))
		}
	})}
}

func (*status) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: schema.GroupKind{Group: admissionregistrationv1.GroupName, Kind: "ValidatingAdmissionPolicy"}, Field: "status"}}
}

// Reconcile implements reconcile.Controller.
func (s *status) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	p, ok := s.view.Get("", key.Name)
	if !ok || p.Status.ObservedGeneration == p.Generation {
		return reconcile.Result{}, nil
	}
	next := p.DeepCopy()
	next.Status.ObservedGeneration = p.Generation
	next.Status.TypeChecking = &admissionregistrationv1.TypeChecking{ExpressionWarnings: s.check(p)}
	_, err := w.Update(ctx, s.view.Definition(), next, "status")
	if apierrors.IsNotFound(err) {
		err = nil
	}
	return reconcile.Result{}, err
}
