package volumes

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/ephemeral"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

type unusedController struct {
	claims *reconcile.View[*corev1.PersistentVolumeClaim]
	pods   *reconcile.View[*corev1.Pod]
}

// NewUnused returns the controller that tells of each bound claim since when no
// pod refers to it, in the condition Unused.
func NewUnused(h *reconcile.Hub) reconcile.Controller {
	return &unusedController{claimView(h), podView(h)}
}

func (u *unusedController) Name() string { return "pvc-unused" }

func (u *unusedController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.On(u.claims, func(_, new *corev1.PersistentVolumeClaim, enqueue func(object.Key)) {
			if new != nil && tracksUse(new) && unused(new) < 0 {
				enqueue(object.KeyOf(new))
			}
		}),
		reconcile.On(u.pods, func(old, new *corev1.Pod, enqueue func(object.Key)) {
			p := new
			switch {
			case new == nil:
				p = old
			case old != nil && terminated(old) == terminated(new):
				return
			}
			for i := range p.Spec.Volumes {
				if name := claimOf(p, &p.Spec.Volumes[i]); name != "" {
					enqueue(object.Key{Namespace: p.Namespace, Name: name})
				}
			}
		}),
	}
}

func (u *unusedController) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: u.claims.Definition().GVK().GroupKind(), Field: "condition Unused"}}
}

// tracksUse says whether it is told of a claim if it is used: not before it is
// bound, and no more once it is to be deleted.
func tracksUse(c *corev1.PersistentVolumeClaim) bool {
	return c.Status.Phase == corev1.ClaimBound && c.DeletionTimestamp == nil
}

// unused is where a claim has the condition, -1 when it has not.
func unused(c *corev1.PersistentVolumeClaim) int {
	return slices.IndexFunc(c.Status.Conditions, func(x corev1.PersistentVolumeClaimCondition) bool {
		return x.Type == corev1.PersistentVolumeClaimUnused
	})
}

// terminated says whether a pod uses nothing any more: it has ended, or is to be
// deleted and none of its containers runs. One that waits for a node does use
// what it refers to.
func terminated(p *corev1.Pod) bool {
	if finished(p) || p.DeletionTimestamp == nil {
		return finished(p)
	}
	for _, all := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for i := range all {
			if s := &all[i].State; s.Terminated == nil && s.Waiting == nil {
				return false
			}
		}
	}
	return true
}

func (u *unusedController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	c, ok := u.claims.Get(key.Namespace, key.Name)
	if !ok || !tracksUse(c) {
		return reconcile.Result{}, nil
	}
	want := corev1.PersistentVolumeClaimCondition{
		Type: corev1.PersistentVolumeClaimUnused, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
		Reason: "NoPodsUsingPVC", Message: "No pods are currently referencing this PVC",
	}
	if slices.ContainsFunc(u.pods.By(byClaim, key.String()), func(p *corev1.Pod) bool { return !terminated(p) && refersTo(p, c) }) {
		want.Status, want.Reason, want.Message = corev1.ConditionFalse, "PodUsingPVC", "A pod is currently referencing this PVC"
	}
	next := c.DeepCopy()
	switch i := unused(c); {
	case i < 0:
		next.Status.Conditions = append(next.Status.Conditions, want)
	case c.Status.Conditions[i].Status == want.Status:
		return reconcile.Result{}, nil
	default:
		next.Status.Conditions[i] = want
	}
	if _, err := client.UpdateStatus(ctx, w, next); err != nil {
		return reconcile.Result{}, gone(fmt.Errorf("cannot set condition of claim %s: %w", key, err))
	}
	return reconcile.Result{}, nil
}

// refersTo says whether one of a pod's volumes is a claim, and not merely another
// of the name that its own ephemeral one would have.
func refersTo(p *corev1.Pod, c *corev1.PersistentVolumeClaim) bool {
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		return claimOf(p, &v) == c.Name && (v.Ephemeral == nil || ephemeral.VolumeIsForPod(p, c) == nil)
	})
}
