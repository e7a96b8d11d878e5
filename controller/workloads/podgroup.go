package workloads

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// podGroupFinalizer is what admission gives each group.
const podGroupFinalizer = "scheduling.k8s.io/podgroup-protection"

const byPodGroup = "podGroup"

// podGroupProtection lets a group of pods that is to be deleted go once no pod
// that has not ended is in it.
type podGroupProtection struct {
	groups *reconcile.View[*schedulingv1beta1.PodGroup]
	pods   *reconcile.View[*corev1.Pod]
}

// NewPodGroupProtection returns the controller that keeps groups that pods are
// in. The hub's client must know the kind.
func NewPodGroupProtection(h *reconcile.Hub) reconcile.Controller {
	c := &podGroupProtection{reconcile.ViewOf[*schedulingv1beta1.PodGroup](h), reconcile.ViewOf[*corev1.Pod](h)}
	c.pods.Index(byPodGroup, func(p *corev1.Pod) []string {
		if !inPodGroup(p) {
			return nil
		}
		return []string{podGroupOf(p).String()}
	})
	return c
}

func podGroupOf(p *corev1.Pod) object.Key {
	if g := p.Spec.SchedulingGroup; g != nil && g.PodGroupName != nil {
		return object.Key{Namespace: p.Namespace, Name: *g.PodGroupName}
	}
	return object.Key{}
}

// inPodGroup tells whether a pod needs the group that it names.
func inPodGroup(p *corev1.Pod) bool {
	return podGroupOf(p).Name != "" && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed
}

func (c *podGroupProtection) Name() string { return "podgroup-protection" }

func (c *podGroupProtection) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.On(c.groups, func(_, new *schedulingv1beta1.PodGroup, enqueue func(object.Key)) {
			if new != nil && new.DeletionTimestamp != nil && slices.Contains(new.Finalizers, podGroupFinalizer) {
				enqueue(object.KeyOf(new))
			}
		}),
		reconcile.On(c.pods, func(old, new *corev1.Pod, enqueue func(object.Key)) {
			if old != nil && inPodGroup(old) && (new == nil || !inPodGroup(new)) {
				enqueue(podGroupOf(old))
			}
		}),
	}
}

func (c *podGroupProtection) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.groups.Definition().GVK().GroupKind(), Field: "finalizer " + podGroupFinalizer}}
}

func (c *podGroupProtection) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	g, ok := c.groups.Get(key.Namespace, key.Name)
	if !ok || g.DeletionTimestamp == nil || !slices.Contains(g.Finalizers, podGroupFinalizer) || len(c.pods.By(byPodGroup, key.String())) > 0 {
		return reconcile.Result{}, nil
	}
	// A pod that the view has not heard of yet may be in it.
	pods, _, err := client.ListOf[*corev1.Pod](ctx, w, key.Namespace, client.ListOptions{})
	if err != nil || slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return inPodGroup(p) && podGroupOf(p) == key }) {
		return reconcile.Result{}, err
	}
	next := g.DeepCopy()
	next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == podGroupFinalizer })
	if _, err := client.Update(ctx, w, next); err != nil && !apierrors.IsNotFound(err) {
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, nil
}
