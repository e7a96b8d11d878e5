package scaling

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/controller/podstate"
	"sagong/object"
	"sagong/reconcile"
)

type staleDisruptionController struct {
	pods *reconcile.View[*corev1.Pod]
}

// NewStaleDisruption returns the controller that takes back the condition
// DisruptionTarget from pods that were to be disrupted but have not been deleted
// within two minutes: whoever set it gave up.
func NewStaleDisruption(h *reconcile.Hub) reconcile.Controller {
	return &staleDisruptionController{reconcile.ViewOf[*corev1.Pod](h)}
}

func (c *staleDisruptionController) Name() string { return "stale-pod-disruption" }

func (c *staleDisruptionController) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.On(c.pods, func(_, new *corev1.Pod, enqueue func(object.Key)) {
		if new != nil && staleTarget(new) != nil {
			enqueue(object.KeyOf(new))
		}
	})}
}

func (c *staleDisruptionController) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.pods.Definition().GVK().GroupKind(), Field: "condition DisruptionTarget gone stale"}}
}

// staleTarget is a pod's DisruptionTarget condition when that may become stale. One
// that its node set never does: ending the pod may take as long as it takes.
func staleTarget(p *corev1.Pod) *corev1.PodCondition {
	if p.DeletionTimestamp != nil || podstate.Finished(p) {
		return nil
	}
	if cond := podstate.Condition(p, corev1.DisruptionTarget); cond != nil && cond.Status == corev1.ConditionTrue && cond.Reason != corev1.PodReasonTerminationByKubelet {
		return cond
	}
	return nil
}

func (c *staleDisruptionController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	p, ok := c.pods.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	cond := staleTarget(p)
	if cond == nil {
		return reconcile.Result{}, nil
	}
	now := time.Now()
	if wait := cond.LastTransitionTime.Add(evictionTimeout).Sub(now); wait > 0 {
		return reconcile.Result{After: wait}, nil
	}
	next := p.DeepCopy()
	podstate.SetCondition(&next.Status, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(now), ObservedGeneration: p.Generation,
	})
	_, err := client.UpdateStatus(ctx, w, next)
	if apierrors.IsNotFound(err) {
		err = nil
	}
	return reconcile.Result{}, err
}
