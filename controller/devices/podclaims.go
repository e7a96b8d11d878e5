package devices

import (
	"context"
	"errors"
	"fmt"
	"maps"

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

const (
	byOwner    = "devices/owner"    // claims by the UID of the pod they were made for
	byTemplate = "devices/template" // pods by "namespace/template"
	byClaim    = "devices/claim"    // pods by "namespace/claim"
)

type podClaims struct {
	pods      *reconcile.View[*corev1.Pod]
	claims    *reconcile.View[*resourcev1.ResourceClaim]
	templates *reconcile.View[*resourcev1.ResourceClaimTemplate]
	events    client.Recorder
}

// NewPodClaims returns the controller that makes the claims of pods from their
// templates, tells pods the names, and reserves allocated claims for pods that
// came to a node without a scheduler.
func NewPodClaims(h *reconcile.Hub, events client.Recorder) reconcile.Controller {
	c := &podClaims{
		pods: podView(h), claims: claimView(h), templates: reconcile.ViewOf[*resourcev1.ResourceClaimTemplate](h), events: events,
	}
	c.pods.Index(byTemplate, func(p *corev1.Pod) (keys []string) {
		for i := range p.Spec.ResourceClaims {
			if t := p.Spec.ResourceClaims[i].ResourceClaimTemplateName; t != nil {
				keys = append(keys, p.Namespace+"/"+*t)
			}
		}
		return keys
	})
	return c
}

func podView(h *reconcile.Hub) *reconcile.View[*corev1.Pod] {
	v := reconcile.ViewOf[*corev1.Pod](h)
	v.Index(byClaim, func(p *corev1.Pod) (keys []string) {
		for name := range resourceclaim.PodClaims(p) {
			keys = append(keys, p.Namespace+"/"+name)
		}
		return keys
	})
	return v
}

func claimView(h *reconcile.Hub) *reconcile.View[*resourcev1.ResourceClaim] {
	v := reconcile.ViewOf[*resourcev1.ResourceClaim](h)
	v.Index(byOwner, func(c *resourcev1.ResourceClaim) []string {
		if ref := owner(c); ref != nil {
			return []string{string(ref.UID)}
		}
		return nil
	})
	return v
}

// owner refers to the pod that a claim was made for, nil for other claims.
func owner(c *resourcev1.ResourceClaim) *metav1.OwnerReference {
	if ref := metav1.GetControllerOfNoCopy(c); ref != nil && ref.APIVersion == "v1" && ref.Kind == "Pod" {
		return ref
	}
	return nil
}

func (c *podClaims) Name() string { return "pod-resource-claims" }

func (c *podClaims) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.On(c.pods, func(old, new *corev1.Pod, enqueue func(object.Key)) {
			if new != nil && len(new.Spec.ResourceClaims) > 0 && new.DeletionTimestamp == nil &&
				(old == nil || old.Spec.NodeName != new.Spec.NodeName) {
				enqueue(object.KeyOf(new))
			}
		}),
		reconcile.On(c.claims, func(old, new *resourcev1.ResourceClaim, enqueue func(object.Key)) {
			claim := new
			if new == nil {
				claim = old
			}
			if new != nil && old != nil && (old.Status.Allocation == nil) == (new.Status.Allocation == nil) {
				return
			}
			for _, p := range c.pods.By(byClaim, claim.Namespace+"/"+claim.Name) {
				enqueue(object.KeyOf(p))
			}
		}),
		reconcile.On(c.templates, func(old, new *resourcev1.ResourceClaimTemplate, enqueue func(object.Key)) {
			if old != nil {
				return
			}
			for _, p := range c.pods.By(byTemplate, new.Namespace+"/"+new.Name) {
				enqueue(object.KeyOf(p))
			}
		}),
	}
}

func (c *podClaims) Outputs() []reconcile.Output {
	return []reconcile.Output{
		{Kind: c.claims.Definition().GVK().GroupKind(), Field: "of Pod"},
		{Kind: c.pods.Definition().GVK().GroupKind(), Field: "status.resourceClaimStatuses"},
	}
}

func (c *podClaims) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	p, ok := c.pods.Get(key.Namespace, key.Name)
	if !ok || p.DeletionTimestamp != nil || podstate.Finished(p) {
		return reconcile.Result{}, nil
	}
	made := map[string]string{} // claim by the pod's name for it
	for i := range p.Spec.ResourceClaims {
		pc := &p.Spec.ResourceClaims[i]
		name, err := c.claim(ctx, w, p, pc)
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return reconcile.Result{}, nil
		}
		if err != nil {
			c.events.Eventf(p, corev1.EventTypeWarning, "FailedResourceClaimCreation", "PodResourceClaim %s: %v", pc.Name, err)
			return reconcile.Result{}, fmt.Errorf("cannot make claim %s of pod %s: %w", pc.Name, key, err)
		}
		if name != "" {
			made[pc.Name] = name
		}
	}
	if len(made) > 0 {
		next, err := client.UpdateStatus(ctx, w, named(p, made))
		if err != nil {
			return reconcile.Result{}, gone(err)
		}
		p = next
	}
	if p.Spec.NodeName == "" {
		return reconcile.Result{}, nil // the scheduler reserves
	}
	return reconcile.Result{}, c.reserve(ctx, w, p)
}

// named is a pod whose status names the claims made for it.
func named(p *corev1.Pod, made map[string]string) *corev1.Pod {
	p = p.DeepCopy()
	old := map[string]corev1.PodResourceClaimStatus{}
	for _, s := range p.Status.ResourceClaimStatuses {
		old[s.Name] = s
	}
	p.Status.ResourceClaimStatuses = nil
	for i := range p.Spec.ResourceClaims {
		name := p.Spec.ResourceClaims[i].Name
		if claim, ok := made[name]; ok {
			p.Status.ResourceClaimStatuses = append(p.Status.ResourceClaimStatuses, corev1.PodResourceClaimStatus{Name: name, ResourceClaimName: &claim})
		} else if s, ok := old[name]; ok {
			p.Status.ResourceClaimStatuses = append(p.Status.ResourceClaimStatuses, s)
		}
	}
	return p
}

// claim sees to it that one of a pod's claims exists. It returns the name when
// the pod's status does not have it yet.
func (c *podClaims) claim(ctx context.Context, w client.Client, p *corev1.Pod, pc *corev1.PodResourceClaim) (string, error) {
	name, check, err := resourceclaim.Name(p, pc)
	switch {
	case errors.Is(err, resourceclaim.ErrClaimNotFound):
	case err != nil:
		return "", fmt.Errorf("checking for claim before creating it: %w", err)
	case name == nil:
		return "", nil
	default:
		// It may have been deleted, or replaced by one that is not the pod's.
		claim, ok := c.claims.Get(p.Namespace, *name)
		if ok && (!check || resourceclaim.IsForPod(p, claim, false) == nil) {
			return "", nil
		}
	}
	if pc.ResourceClaimTemplateName == nil {
		return "", nil
	}
	for _, claim := range c.claims.By(byOwner, string(p.UID)) {
		if claim.Namespace == p.Namespace && claim.Annotations[resourcev1.PodResourceClaimAnnotation] == pc.Name {
			return claim.Name, nil // made before the pod could be told
		}
	}
	t, ok := c.templates.Get(p.Namespace, *pc.ResourceClaimTemplateName)
	if !ok {
		return "", fmt.Errorf("resource claim template %q: %w", *pc.ResourceClaimTemplateName,
			apierrors.NewNotFound(resourcev1.Resource("resourceclaimtemplate"), *pc.ResourceClaimTemplateName))
	}
	annotations := maps.Clone(t.Spec.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[resourcev1.PodResourceClaimAnnotation] = pc.Name
	claim, err := client.Create(ctx, w, &resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.Namespace, GenerateName: baseName(p.Name, pc.Name), Labels: maps.Clone(t.Spec.Labels), Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(p, corev1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Spec: *t.Spec.Spec.DeepCopy(),
	})
	if err != nil {
		return "", fmt.Errorf("create ResourceClaim : %w", err)
	}
	return claim.Name, nil
}

// baseName is what a claim's name begins with: that of the pod and the pod's own
// for the claim, both cut alike when they are long.
func baseName(pod, claim string) string {
	const most = 57 // leaves room for a hyphen and five characters in 63
	name := pod + "-" + claim + "-"
	if n := len(name); n > most {
		name = pod[:len(pod)*most/n] + "-" + claim[:len(claim)*most/n]
	}
	return name
}

// reserve notes in allocated claims that a pod which has its node uses them.
func (c *podClaims) reserve(ctx context.Context, w client.Client, p *corev1.Pod) error {
	for name, check := range resourceclaim.PodClaims(p) {
		claim, ok := c.claims.Get(p.Namespace, name)
		if !ok {
			continue
		}
		if check {
			if err := resourceclaim.IsForPod(p, claim, false); err != nil {
				return err
			}
		}
		if claim.Status.Allocation == nil || claim.DeletionTimestamp != nil || resourceclaim.IsReservedForPod(p, claim, false) {
			continue
		}
		claim = claim.DeepCopy()
		claim.Status.ReservedFor = append(claim.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: p.Name, UID: p.UID})
		if _, err := client.UpdateStatus(ctx, w, claim); gone(err) != nil {
			return fmt.Errorf("cannot reserve claim %s/%s for pod: %w", claim.Namespace, claim.Name, err)
		}
	}
	return nil
}

// gone takes what is missing for done.
func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
