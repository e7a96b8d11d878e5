// Package scaling holds the controllers that decide how many pods there may be
// or must be: disruption budgets.
package scaling

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sagong/client"
	"sagong/controller/podstate"
	"sagong/object"
	"sagong/reconcile"
)

// evictionTimeout is how long a pod that may be evicted counts as disrupted
// although it is still there.
const evictionTimeout = 2 * time.Minute

type disruptionController struct {
	budgets     *reconcile.View[*policyv1.PodDisruptionBudget]
	pods        *reconcile.View[*corev1.Pod]
	seen        podstate.Digests // the same pods
	deployments *reconcile.View[*appsv1.Deployment]
	sets        *reconcile.View[*appsv1.ReplicaSet]
	stateful    *reconcile.View[*appsv1.StatefulSet]
	controllers *reconcile.View[*corev1.ReplicationController]
	events      client.Recorder
}

// NewDisruption returns the controller that keeps the status of
// PodDisruptionBudgets, by which evictions are allowed.
func NewDisruption(h *reconcile.Hub, events client.Recorder) reconcile.Controller {
	c := &disruptionController{
		budgets: reconcile.ViewOf[*policyv1.PodDisruptionBudget](h), pods: reconcile.ViewOf[*corev1.Pod](h),
		deployments: reconcile.ViewOf[*appsv1.Deployment](h), sets: reconcile.ViewOf[*appsv1.ReplicaSet](h),
		stateful: reconcile.ViewOf[*appsv1.StatefulSet](h), controllers: reconcile.ViewOf[*corev1.ReplicationController](h),
		events: events,
	}
	c.budgets.Index("namespace", func(b *policyv1.PodDisruptionBudget) []string { return []string{b.Namespace} })
	c.pods.Index("namespace", func(p *corev1.Pod) []string { return []string{p.Namespace} })
	c.seen = podstate.DigestsOf(c.pods)
	return c
}

func (c *disruptionController) Name() string { return "disruption" }

func (c *disruptionController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.Self(c.budgets),
		reconcile.On(c.pods, func(old, new *corev1.Pod, enqueue func(object.Key)) {
			for _, p := range []*corev1.Pod{old, new} {
				if p == nil {
					continue
				}
				mine := c.of(p)
				for _, b := range mine {
					enqueue(object.KeyOf(b))
				}
				if p == new && (old == nil || !maps.Equal(old.Labels, new.Labels)) {
					c.tellSeveral(p, mine)
				}
			}
		}),
		scaled(c, c.deployments, func(d *appsv1.Deployment) *int32 { return d.Spec.Replicas }),
		scaled(c, c.sets, func(s *appsv1.ReplicaSet) *int32 { return s.Spec.Replicas }),
		scaled(c, c.stateful, func(s *appsv1.StatefulSet) *int32 { return s.Spec.Replicas }),
		scaled(c, c.controllers, func(s *corev1.ReplicationController) *int32 { return s.Spec.Replicas }),
	}
}

// of are the budgets that cover a pod.
func (c *disruptionController) of(p *corev1.Pod) []*policyv1.PodDisruptionBudget {
	var mine []*policyv1.PodDisruptionBudget
	for _, b := range c.budgets.By("namespace", p.Namespace) {
		if s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector); err == nil && s.Matches(labels.Set(p.Labels)) {
			mine = append(mine, b)
		}
	}
	return mine
}

// tellSeveral warns of a pod that several budgets cover: it cannot be evicted.
func (c *disruptionController) tellSeveral(p *corev1.Pod, mine []*policyv1.PodDisruptionBudget) {
	if len(mine) < 2 {
		return
	}
	first := slices.MinFunc(mine, func(a, b *policyv1.PodDisruptionBudget) int { return strings.Compare(a.Name, b.Name) })
	c.events.Eventf(p, corev1.EventTypeWarning, "MultiplePodDisruptionBudgets", "Pod %q/%q matches multiple PodDisruptionBudgets.  Chose %q arbitrarily.", p.Namespace, p.Name, first.Name)
}

// scaled is the input that has a namespace's budgets looked at when the size of
// a workload there changes.
func scaled[T object.Object](c *disruptionController, v *reconcile.View[T], size func(T) *int32) reconcile.Input {
	return reconcile.On(v, func(old, new T, enqueue func(object.Key)) {
		var none T
		if any(old) != any(none) && any(new) != any(none) && equality.Semantic.DeepEqual(size(old), size(new)) {
			return
		}
		o := new
		if any(new) == any(none) {
			o = old
		}
		for _, b := range c.budgets.By("namespace", o.GetNamespace()) {
			enqueue(object.KeyOf(b))
		}
	})
}

func (c *disruptionController) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.budgets.Definition().GVK().GroupKind(), Field: "status"}}
}

func (c *disruptionController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	b, ok := c.budgets.Get(key.Namespace, key.Name)
	if !ok || b.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil {
		return reconcile.Result{}, nil // validation refuses such; nothing to retry
	}
	var pods []*corev1.Pod
	for _, p := range c.seen.By("namespace", b.Namespace) {
		if selector.Matches(labels.Set(p.Digest.Labels)) { // those that have finished too
			pods = append(pods, p.Object())
		}
	}
	if b.Status.ObservedGeneration < b.Generation && len(c.budgets.By("namespace", b.Namespace)) > 1 {
		for _, p := range pods {
			c.tellSeveral(p, c.of(p))
		}
	}
	now := time.Now()
	next := b.DeepCopy()
	for _, p := range pods {
		if at, ok := b.Status.DisruptedPods[p.Name]; ok && p.DeletionTimestamp == nil && !at.Add(evictionTimeout).After(now) {
			c.events.Eventf(p, corev1.EventTypeWarning, "NotDeleted", "Pod was expected by PDB %s/%s to be deleted but it wasn't", b.Namespace, b.Name)
		}
	}
	var scale int32
	var unmanaged int
	var scaleErr error
	if b.Spec.MaxUnavailable != nil || b.Spec.MinAvailable != nil && b.Spec.MinAvailable.Type == intstr.String {
		scale, unmanaged, scaleErr = c.scale(ctx, w, pods) // whose pods they are counts for nothing else
	}
	var after time.Duration
	if scaleErr == nil {
		after, scaleErr = planBudget(next, pods, scale, now)
	}
	if scaleErr != nil {
		c.events.Eventf(b, corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %v", scaleErr)
		next.Status.DisruptionsAllowed = 0
		meta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{
			Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason,
			Message: scaleErr.Error(), ObservedGeneration: b.Status.ObservedGeneration, LastTransitionTime: metav1.NewTime(now),
		})
	}
	if !equality.Semantic.DeepEqual(b.Status, next.Status) {
		if len(pods) == 0 {
			c.events.Eventf(b, corev1.EventTypeNormal, "NoPods", "No matching pods found")
		}
		if unmanaged > 0 {
			c.events.Eventf(b, corev1.EventTypeWarning, "UnmanagedPods", "Pods selected by this PodDisruptionBudget (selector: %v) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.", b.Spec.Selector)
		}
		if _, err := client.UpdateStatus(ctx, w, next); err != nil && !apierrors.IsNotFound(err) {
			return reconcile.Result{}, errors.Join(scaleErr, fmt.Errorf("cannot update status: %w", err))
		}
	}
	return reconcile.Result{After: after}, scaleErr
}

// planBudget fills in a budget's status from its pods and the size that their
// workloads want. after is when a pod stops counting as disrupted.
func planBudget(b *policyv1.PodDisruptionBudget, pods []*corev1.Pod, scale int32, now time.Time) (after time.Duration, err error) {
	expected, desired := int32(len(pods)), int32(0)
	of := func(v *intstr.IntOrString) (int32, error) {
		n, err := intstr.GetScaledValueFromIntOrPercent(v, int(scale), true)
		return int32(n), err
	}
	switch {
	case b.Spec.MaxUnavailable != nil:
		expected = scale
		most, err := of(b.Spec.MaxUnavailable)
		if err != nil {
			return 0, err
		}
		desired = max(0, expected-most)
	case b.Spec.MinAvailable != nil && b.Spec.MinAvailable.Type == intstr.Int:
		desired = b.Spec.MinAvailable.IntVal
	case b.Spec.MinAvailable != nil:
		expected = scale
		if desired, err = of(b.Spec.MinAvailable); err != nil {
			return 0, err
		}
	}
	disrupted := maps.Clone(b.Status.DisruptedPods)
	healthy := int32(0)
	here := map[string]bool{}
	for _, p := range pods {
		if at, ok := disrupted[p.Name]; ok && p.DeletionTimestamp == nil {
			if left := at.Add(evictionTimeout).Sub(now); left > 0 {
				here[p.Name] = true
				if after == 0 || left < after {
					after = left
				}
				continue
			}
		}
		if p.DeletionTimestamp == nil && podstate.Ready(p) {
			healthy++
		}
	}
	maps.DeleteFunc(disrupted, func(name string, _ metav1.Time) bool { return !here[name] })
	if len(disrupted) == 0 {
		disrupted = nil
	}
	s := &b.Status
	s.ObservedGeneration, s.DisruptedPods = b.Generation, disrupted
	s.CurrentHealthy, s.DesiredHealthy, s.ExpectedPods = healthy, desired, expected
	s.DisruptionsAllowed = max(0, healthy-desired)
	if expected <= 0 {
		s.DisruptionsAllowed = 0
	}
	cond := metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionTrue, Reason: policyv1.SufficientPodsReason,
		ObservedGeneration: b.Generation, LastTransitionTime: metav1.NewTime(now),
	}
	if s.DisruptionsAllowed == 0 {
		cond.Status, cond.Reason = metav1.ConditionFalse, policyv1.InsufficientPodsReason
	}
	meta.SetStatusCondition(&s.Conditions, cond)
	return after, nil
}

// scale adds up the sizes that the controllers of pods want, each once.
func (c *disruptionController) scale(ctx context.Context, w client.Client, pods []*corev1.Pod) (total int32, unmanaged int, err error) {
	seen := map[types.UID]bool{}
	for _, p := range pods {
		ref := metav1.GetControllerOfNoCopy(p)
		if ref == nil {
			unmanaged++
			continue
		}
		uid, n, err := c.sizeOf(ctx, w, p.Namespace, ref)
		if errors.Is(err, errNoWorkload) {
			err = fmt.Errorf("found no controllers for pod %q", p.Name)
		}
		if err != nil {
			return 0, unmanaged, err
		}
		if !seen[uid] {
			seen[uid] = true
			total += n
		}
	}
	return total, unmanaged, nil
}

var errNoWorkload = errors.New("no such workload")

// sizeOf finds the workload that a controller reference leads to, and its size:
// a ReplicaSet's Deployment rather than the set itself.
func (c *disruptionController) sizeOf(ctx context.Context, w client.Client, namespace string, ref *metav1.OwnerReference) (types.UID, int32, error) {
	switch reconcile.GroupOf(ref.APIVersion) + "/" + ref.Kind {
	case "apps/ReplicaSet":
		rs, ok := c.sets.Get(namespace, ref.Name)
		if !ok || rs.UID != ref.UID {
			return "", 0, errNoWorkload
		}
		if up := metav1.GetControllerOfNoCopy(rs); up != nil && up.Kind == "Deployment" {
			if d, ok := c.deployments.Get(namespace, up.Name); ok && d.UID == up.UID {
				return d.UID, orOne(d.Spec.Replicas), nil
			}
			return "", 0, errNoWorkload
		}
		return rs.UID, orOne(rs.Spec.Replicas), nil
	case "apps/StatefulSet":
		s, ok := c.stateful.Get(namespace, ref.Name)
		if !ok || s.UID != ref.UID {
			return "", 0, errNoWorkload
		}
		return s.UID, orOne(s.Spec.Replicas), nil
	case "/ReplicationController":
		rc, ok := c.controllers.Get(namespace, ref.Name)
		if !ok || rc.UID != ref.UID {
			return "", 0, errNoWorkload
		}
		return rc.UID, orOne(rc.Spec.Replicas), nil
	}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return "", 0, err
	}
	d := w.Scheme().ByKind(gv.WithKind(ref.Kind))
	switch {
	case d == nil:
		return "", 0, &meta.NoKindMatchError{GroupKind: gv.WithKind(ref.Kind).GroupKind(), SearchedVersions: []string{gv.Version}}
	case d.Scale == nil:
		return "", 0, fmt.Errorf("%s does not implement the scale subresource", schema.GroupResource{Group: d.Group, Resource: d.Resource})
	}
	o, err := w.Get(ctx, d, namespace, ref.Name)
	switch {
	case apierrors.IsNotFound(err):
		return "", 0, errNoWorkload
	case err != nil:
		return "", 0, err
	}
	if o.GetUID() != ref.UID {
		return "", 0, errNoWorkload
	}
	return o.GetUID(), d.Scale.Get(o).Spec.Replicas, nil
}

func orOne(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}
