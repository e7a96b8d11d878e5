package devices

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"sagong/client"
	"sagong/controller/podstate"
	"sagong/object"
	"sagong/reconcile"
)

type claimController struct {
	pods   *reconcile.View[*corev1.Pod]
	claims *reconcile.View[*resourcev1.ResourceClaim]
}

// NewClaim returns the controller that ends reservations of pods that need their
// devices no longer, gives the devices of claims that nobody uses back, and
// deletes claims made for pods that are done, or that have another.
func NewClaim(h *reconcile.Hub) reconcile.Controller {
	return &claimController{pods: podView(h), claims: claimView(h)}
}

func (c *claimController) Name() string { return "resource-claim" }

func (c *claimController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.On(c.claims, func(_, new *resourcev1.ResourceClaim, enqueue func(object.Key)) {
			if new != nil && (len(new.Status.ReservedFor) > 0 || new.DeletionTimestamp != nil || owner(new) != nil) {
				enqueue(object.KeyOf(new))
			}
		}),
		reconcile.On(c.pods, func(old, new *corev1.Pod, enqueue func(object.Key)) {
			p := new
			switch {
			case new == nil:
				p = old
			case !done(new):
				if len(new.Status.ResourceClaimStatuses) > 0 && (old == nil || len(old.Status.ResourceClaimStatuses) == 0) {
					for _, claim := range c.claims.By(byOwner, string(new.UID)) {
						enqueue(object.KeyOf(claim)) // one too many, perhaps
					}
				}
				return
			}
			for name := range resourceclaim.PodClaims(p) {
				enqueue(object.Key{Namespace: p.Namespace, Name: name})
			}
			// Those it was never told of.
			for _, claim := range c.claims.By(byOwner, string(p.UID)) {
				enqueue(object.KeyOf(claim))
			}
		}),
	}
}

func (c *claimController) Outputs() []reconcile.Output {
	kind := c.claims.Definition().GVK().GroupKind()
	return []reconcile.Output{{Kind: kind, Field: "end of status.reservedFor"}, {Kind: kind, Field: "finalizer " + resourcev1.Finalizer}}
}

// done tells whether it is certain that no container of a pod runs or ever will.
func done(p *corev1.Pod) bool {
	return podstate.Finished(p) || p.DeletionTimestamp != nil && p.Spec.NodeName == ""
}

func (c *claimController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	claim, ok := c.claims.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	users := make([]resourcev1.ResourceClaimConsumerReference, 0, len(claim.Status.ReservedFor))
	for _, r := range claim.Status.ReservedFor {
		uses, err := c.uses(ctx, w, claim.Namespace, r)
		if err != nil {
			return reconcile.Result{}, err
		}
		if uses {
			users = append(users, r)
		}
	}
	ours := slices.Contains(claim.Finalizers, resourcev1.Finalizer)
	fewer := len(users) < len(claim.Status.ReservedFor)
	if fewer || ours && claim.DeletionTimestamp != nil && len(users) == 0 && claim.Status.Allocation != nil {
		next := claim.DeepCopy()
		if next.Status.ReservedFor = users; len(users) == 0 {
			next.Status.ReservedFor = nil
			if ours {
				next.Status.Allocation = nil // others may have the devices now
			}
		}
		var err error
		if claim, err = client.UpdateStatus(ctx, w, next); err != nil {
			return reconcile.Result{}, gone(err)
		}
	}
	if ours && claim.Status.Allocation == nil && (fewer || claim.DeletionTimestamp != nil) {
		next := claim.DeepCopy()
		next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == resourcev1.Finalizer })
		var err error
		if claim, err = client.Update(ctx, w, next); err != nil {
			return reconcile.Result{}, gone(err)
		}
	}
	if len(users) > 0 || claim.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	// A claim made for a pod goes before that does, if the pod will not run.
	ref := owner(claim)
	if ref == nil {
		return reconcile.Result{}, nil
	}
	p, ok := c.pods.Get(claim.Namespace, ref.Name)
	if !ok || p.UID == ref.UID && !done(p) && !c.surplus(claim, p) {
		return reconcile.Result{}, nil // the garbage collector sees to claims whose pod is gone
	}
	return reconcile.Result{}, gone(client.Delete[*resourcev1.ResourceClaim](ctx, w, claim.Namespace, claim.Name,
		metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(claim.UID))}))
}

// surplus tells whether a claim was made for a pod that has another for the same
// purpose: nobody heard that it was made.
func (c *claimController) surplus(claim *resourcev1.ResourceClaim, p *corev1.Pod) bool {
	purpose := claim.Annotations[resourcev1.PodResourceClaimAnnotation]
	if purpose == "" || claim.Status.Allocation != nil {
		return false
	}
	for _, s := range p.Status.ResourceClaimStatuses {
		if s.Name == purpose && s.ResourceClaimName != nil && *s.ResourceClaimName != claim.Name {
			other, ok := c.claims.Get(claim.Namespace, *s.ResourceClaimName)
			return ok && other.DeletionTimestamp == nil && resourceclaim.IsForPod(p, other, false) == nil
		}
	}
	return false
}

// uses tells whether a consumer may still use its claim.
func (c *claimController) uses(ctx context.Context, w client.Client, namespace string, r resourcev1.ResourceClaimConsumerReference) (bool, error) {
	if r.APIGroup != "" || r.Resource != "pods" {
		return true, nil // nobody here can tell
	}
	p, ok := c.pods.Get(namespace, r.Name)
	if !ok {
		// It may only not be in view yet, while the scheduler has seen it.
		var err error
		p, err = client.Get[*corev1.Pod](ctx, w, namespace, r.Name)
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return p.UID == r.UID && !done(p), nil
}
