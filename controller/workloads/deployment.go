package workloads

import (
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/client"
	"sagong/controller/podstate"
	"sagong/object"
	"sagong/reconcile"
)

var deploymentKind = schema.GroupKind{Group: appsv1.GroupName, Kind: "Deployment"}

type deploymentController struct {
	deployments *reconcile.View[*appsv1.Deployment]
	sets        *reconcile.View[*appsv1.ReplicaSet]
	pods        *reconcile.View[*corev1.Pod]
	events      client.Recorder
}

// NewDeployment returns the controller of Deployments.
func NewDeployment(h *reconcile.Hub, events client.Recorder) reconcile.Controller {
	c := &deploymentController{
		deployments: reconcile.ViewOf[*appsv1.Deployment](h),
		sets:        reconcile.ViewOf[*appsv1.ReplicaSet](h),
		pods:        reconcile.ViewOf[*corev1.Pod](h),
		events:      events,
	}
	reconcile.IndexOwners(c.sets)
	reconcile.IndexOwners(c.pods)
	c.deployments.Index("namespace", func(d *appsv1.Deployment) []string { return []string{d.Namespace} })
	return c
}

func (c *deploymentController) Name() string { return "deployment" }

func (c *deploymentController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.Self(c.deployments),
		reconcile.On(c.sets, func(old, new *appsv1.ReplicaSet, enqueue func(object.Key)) {
			before, after := reconcile.ControllerKey(old, deploymentKind), reconcile.ControllerKey(new, deploymentKind)
			if after != (object.Key{}) {
				enqueue(after)
			}
			if before != (object.Key{}) && before != after {
				enqueue(before)
			}
			if new != nil && metav1.GetControllerOfNoCopy(new) == nil {
				for _, d := range c.deployments.By("namespace", new.Namespace) {
					if s, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); err == nil && s.Matches(labels.Set(new.Labels)) {
						enqueue(object.KeyOf(d))
					}
				}
			}
		}),
		// Recreate waits for the end of old pods.
		reconcile.On(c.pods, func(old, new *corev1.Pod, enqueue func(object.Key)) {
			if old == nil || (new != nil && !podstate.Finished(new)) {
				return
			}
			ref := metav1.GetControllerOfNoCopy(old)
			if ref == nil || ref.Kind != "ReplicaSet" {
				return
			}
			rs, ok := c.sets.Get(old.Namespace, ref.Name)
			if !ok || rs.UID != ref.UID {
				return
			}
			key := reconcile.ControllerKey(rs, deploymentKind)
			if d, ok := c.deployments.Get(key.Namespace, key.Name); ok && d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
				enqueue(key)
			}
		}),
	}
}

func (c *deploymentController) Outputs() []reconcile.Output {
	return []reconcile.Output{
		{Kind: deploymentKind, Field: "status"},
		{Kind: c.sets.Definition().GVK().GroupKind(), Field: "of Deployment"},
	}
}

func (c *deploymentController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	d, ok := c.deployments.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return reconcile.Result{}, nil // validation refuses such; nothing to retry
	}
	if selector.Empty() {
		return reconcile.Result{}, c.refuseAll(ctx, w, d)
	}
	sets, err := reconcile.Claim(ctx, w, c.sets, d, func(rs *appsv1.ReplicaSet) bool { return selector.Matches(labels.Set(rs.Labels)) })
	if err != nil {
		return reconcile.Result{}, err
	}
	plan := planRollout(d, sets, c.running, time.Now())
	if err := c.carryOut(ctx, w, d, plan); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{After: plan.after}, nil
}

// refuseAll handles a selector that would take every pod of the namespace.
func (c *deploymentController) refuseAll(ctx context.Context, w client.Client, d *appsv1.Deployment) error {
	c.events.Eventf(d, corev1.EventTypeWarning, "SelectingAll", "This deployment is selecting all pods. A non-empty selector is required.")
	if d.Status.ObservedGeneration >= d.Generation {
		return nil
	}
	next := d.DeepCopy()
	next.Status.ObservedGeneration = d.Generation
	_, err := client.UpdateStatus(ctx, w, next)
	return err
}

// running says whether a pod of a set has not ended yet.
func (c *deploymentController) running(rs *appsv1.ReplicaSet) bool {
	return slices.ContainsFunc(reconcile.OwnedBy(c.pods, rs.UID), func(p *corev1.Pod) bool { return !podstate.Finished(p) })
}

// carryOut writes a plan: the sets first and then, when all went well, the
// status that tells of them.
func (c *deploymentController) carryOut(ctx context.Context, w client.Client, d *appsv1.Deployment, p rolloutPlan) error {
	if p.create != nil {
		if err := c.create(ctx, w, d, p.create.DeepCopy()); err != nil {
			return err
		}
	}
	def := c.sets.Definition()
	var writes []client.Write
	for _, rs := range p.update {
		writes = append(writes, client.Write{Op: client.OpUpdate, Definition: def, Object: rs.DeepCopy()})
	}
	for _, rs := range p.delete {
		writes = append(writes, deletion(def, rs))
	}
	if len(writes) > 0 {
		results := w.Batch(ctx, writes)
		for i, r := range results {
			switch {
			case r.Err == nil && i < len(p.update):
				for _, e := range p.events {
					if e.about == p.update[i] {
						c.events.Eventf(d, corev1.EventTypeNormal, "ScalingReplicaSet", "%s", e.message)
					}
				}
			case r.Err == nil || (i >= len(p.update) && apierrors.IsNotFound(r.Err)):
			default:
				return fmt.Errorf("cannot write replica set: %w", r.Err)
			}
		}
	}
	if sameDeploymentStatus(d, p.status) {
		return nil
	}
	return c.writeStatus(ctx, w, d, p.status)
}

// writeStatus writes the status and, with it, the revision annotation.
func (c *deploymentController) writeStatus(ctx context.Context, w client.Client, d, next *appsv1.Deployment) error {
	revision := next.Annotations[revisionAnnotation]
	written, err := client.UpdateStatus(ctx, w, next)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil && written.Annotations[revisionAnnotation] != revision {
		annotated := written.DeepCopy()
		if annotated.Annotations == nil {
			annotated.Annotations = map[string]string{}
		}
		annotated.Annotations[revisionAnnotation] = revision
		_, err = client.Update(ctx, w, annotated)
	}
	if err != nil {
		return fmt.Errorf("cannot update status: %w", err)
	}
	return nil
}

// create makes the set of the current template. A name that is taken by a set
// of another template has the collision count raised, which gives another name.
func (c *deploymentController) create(ctx context.Context, w client.Client, d *appsv1.Deployment, rs *appsv1.ReplicaSet) error {
	name, size, template := rs.Name, orOne(rs.Spec.Replicas), rs.Spec.Template.DeepCopy()
	_, err := client.Create(ctx, w, rs)
	switch {
	case err == nil:
		if size > 0 {
			c.events.Eventf(d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled up replica set %s from 0 to %d", name, size)
		}
		return nil
	case apierrors.IsAlreadyExists(err):
		there, getErr := client.Get[*appsv1.ReplicaSet](ctx, w, d.Namespace, name)
		if getErr != nil {
			return getErr
		}
		if ref := metav1.GetControllerOfNoCopy(there); ref != nil && ref.UID == d.UID && sameTemplate(&there.Spec.Template, template, hashLabel) {
			return fmt.Errorf("replica set %s is not in view yet: %w", name, err)
		}
		next := d.DeepCopy()
		collisions := int32(1)
		if n := d.Status.CollisionCount; n != nil {
			collisions = *n + 1
		}
		next.Status.CollisionCount = &collisions
		if _, updateErr := client.UpdateStatus(ctx, w, next); updateErr != nil {
			return fmt.Errorf("cannot raise collision count: %w", updateErr)
		}
		return fmt.Errorf("hash of replica set %s collides: %w", name, err)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return err
	}
	message := fmt.Sprintf("Failed to create new replica set %q: %v", name, err)
	if hasDeadline(d) {
		next := d.DeepCopy()
		setDeploymentCondition(&next.Status, time.Now(), appsv1.DeploymentProgressing, corev1.ConditionFalse, "ReplicaSetCreateError", message)
		if !sameDeploymentStatus(d, next) {
			_, _ = client.UpdateStatus(ctx, w, next) // the error to return is the creation's
		}
	}
	c.events.Eventf(d, corev1.EventTypeWarning, "ReplicaSetCreateError", "%s", message)
	return err
}
