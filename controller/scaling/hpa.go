package scaling

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/client"
	"sagong/controller/podstate"
	"sagong/object"
	"sagong/reconcile"
)

// syncPeriod is the time between two looks at the metrics; upstream's default.
const syncPeriod = 15 * time.Second

type autoscaler struct {
	autoscalers *reconcile.View[*autoscalingv2.HorizontalPodAutoscaler]
	pods        *reconcile.View[*corev1.Pod]
	seen        podstate.Digests // the same pods
	events      client.Recorder
	meter       meter

	mu        sync.Mutex
	histories map[object.Key]*history
	selectors map[object.Key]labels.Selector
}

// NewHorizontalPodAutoscaler returns the controller that sets the size of scale
// targets by metrics. api reads custom and external metrics; nil when no
// aggregated API can be there.
func NewHorizontalPodAutoscaler(h *reconcile.Hub, events client.Recorder, api ReadAPI) reconcile.Controller {
	c := &autoscaler{
		autoscalers: reconcile.ViewOf[*autoscalingv2.HorizontalPodAutoscaler](h), pods: reconcile.ViewOf[*corev1.Pod](h),
		events: events, meter: meter{api}, histories: map[object.Key]*history{}, selectors: map[object.Key]labels.Selector{},
	}
	c.pods.Index("namespace", func(p *corev1.Pod) []string { return []string{p.Namespace} })
	c.seen = podstate.DigestsOf(c.pods)
	return c
}

func (c *autoscaler) Name() string { return "horizontalpodautoscaler" }

func (c *autoscaler) Inputs() []reconcile.Input {
	return []reconcile.Input{
		// Changes of its own status are no reason to look again.
		reconcile.On(c.autoscalers, func(old, new *autoscalingv2.HorizontalPodAutoscaler, enqueue func(object.Key)) {
			switch {
			case new == nil:
				enqueue(object.KeyOf(old))
			case old == nil || old.Generation != new.Generation:
				enqueue(object.KeyOf(new))
			}
		}),
		reconcile.Reads(c.pods),
	}
}

func (c *autoscaler) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.autoscalers.Definition().GVK().GroupKind(), Field: "status"}}
}

func (c *autoscaler) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	h, ok := c.autoscalers.Get(key.Namespace, key.Name)
	if !ok || h.DeletionTimestamp != nil {
		c.forget(key)
		return reconcile.Result{}, nil
	}
	t := &turn{autoscaler: c, w: w, hpa: h.DeepCopy(), key: key, now: time.Now()}
	generation := h.Generation
	t.hpa.Status.ObservedGeneration = &generation
	// What goes wrong is told by conditions and events, and tried again in time.
	err := t.run(ctx)
	if ctx.Err() != nil {
		return reconcile.Result{}, ctx.Err()
	}
	if !equality.Semantic.DeepEqual(h.Status, t.hpa.Status) {
		if _, werr := client.UpdateStatus(ctx, w, t.hpa); werr != nil && !apierrors.IsNotFound(werr) {
			c.events.Eventf(h, corev1.EventTypeWarning, "FailedUpdateStatus", "%s", werr.Error())
			return reconcile.Result{}, errors.Join(err, fmt.Errorf("cannot update status: %w", werr))
		}
	}
	return reconcile.Result{After: syncPeriod}, nil
}

// history of a key.
func (c *autoscaler) history(key object.Key) *history {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.histories[key]
	if h == nil {
		h = &history{}
		c.histories[key] = h
	}
	return h
}

func (c *autoscaler) forget(key object.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.histories, key)
	delete(c.selectors, key)
}

// rivals notes an autoscaler's selector and returns all whose selectors choose
// any of the pods, as "namespace/name" in order.
func (c *autoscaler) rivals(key object.Key, s labels.Selector, pods []*corev1.Pod) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.selectors[key] = s
	var all []string
	for k, other := range c.selectors {
		if k.Namespace == key.Namespace && slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return other.Matches(labels.Set(p.Labels)) }) {
			all = append(all, k.String())
		}
	}
	slices.Sort(all)
	return all
}

// turn is one handling of one autoscaler.
type turn struct {
	*autoscaler
	w   client.Client
	hpa *autoscalingv2.HorizontalPodAutoscaler // a copy, whose status is filled in
	key object.Key
	now time.Time
}

// run follows upstream's reconcileAutoscaler, whose reasons and texts users know.
func (t *turn) run(ctx context.Context) error {
	spec := &t.hpa.Spec
	target, err := t.target(ctx)
	if err != nil {
		t.warn("FailedGetScale", "%s", err)
		t.condition(autoscalingv2.AbleToScale, corev1.ConditionFalse, "FailedGetScale", "the HPA controller was unable to get the target's current scale: %v", err)
		return err
	}
	t.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	current, least := target.scale.Spec.Replicas, int32(1)
	if spec.MinReplicas != nil {
		least = *spec.MinReplicas
	}
	past := t.history(t.key)
	past.found(current, t.now)
	desired, why := int32(0), ""
	var statuses []autoscalingv2.MetricStatus
	partly := error(nil)
	switch {
	case current == 0 && !t.asleep():
		t.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
	case current > spec.MaxReplicas:
		desired, why = spec.MaxReplicas, "Current number of replicas above Spec.MaxReplicas"
	case current < least:
		desired, why = least, "Current number of replicas below Spec.MinReplicas"
	default:
		var best string
		desired, best, statuses, err = t.measure(ctx, target)
		if err != nil && desired < 0 {
			t.size(current, t.hpa.Status.DesiredReplicas, statuses)
			t.warn("FailedComputeMetricsReplicas", "%s", err)
			return err
		}
		partly = err
		switch {
		case desired > current:
			why = best + " above target"
		case desired < current:
			why = "All metrics below target"
		}
		in := bounds{least, spec.MaxReplicas, current, t.now}
		stable := past.stabilize(spec.Behavior, desired, in)
		t.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, stable.reason, "%s", stable.message)
		limited := past.limit(spec.Behavior, stable.replicas, in)
		status := corev1.ConditionFalse
		if limited.replicas != stable.replicas {
			status = corev1.ConditionTrue
		}
		t.condition(autoscalingv2.ScalingLimited, status, limited.reason, "%s", limited.message)
		desired = limited.replicas
	}
	if desired == current {
		t.size(current, desired, statuses)
		return partly
	}
	if err := target.set(ctx, t.w, desired); err != nil {
		t.warn("FailedRescale", "New size: %d; reason: %s; error: %v", desired, why, err)
		t.condition(autoscalingv2.AbleToScale, corev1.ConditionFalse, "FailedUpdateScale", "the HPA controller was unable to update the target scale: %v", err)
		t.size(current, t.hpa.Status.DesiredReplicas, statuses)
		return fmt.Errorf("failed to rescale %s: %w", target, err)
	}
	t.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededRescale", "the HPA controller was able to update the target scale to %d", desired)
	if desired == 0 {
		t.condition(autoscalingv2.ScaledToZero, corev1.ConditionTrue, "ScaledToZero", "the HPA controller scaled the workload to zero")
	} else if wakes(spec) || t.asleep() {
		t.condition(autoscalingv2.ScaledToZero, corev1.ConditionFalse, "NotScaledToZero", "the HPA controller did not scale the workload to zero")
	}
	t.events.Eventf(t.hpa, corev1.EventTypeNormal, "SuccessfulRescale", "New size: %d; reason: %s", desired, why)
	past.scaled(spec.Behavior, current, desired, t.now)
	past.size = desired
	t.size(current, desired, statuses)
	scaled := metav1.NewTime(t.now)
	t.hpa.Status.LastScaleTime = &scaled
	return partly
}

// asleep says whether the target has no pods because this autoscaler wanted so:
// one that somebody else stopped is left alone.
func (t *turn) asleep() bool {
	return slices.ContainsFunc(t.hpa.Status.Conditions, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
		return c.Type == autoscalingv2.ScaledToZero && c.Status == corev1.ConditionTrue
	})
}

// wakes says whether an autoscaler may go down to zero, and back up by a metric
// that is there without pods.
func wakes(s *autoscalingv2.HorizontalPodAutoscalerSpec) bool {
	return s.MinReplicas != nil && *s.MinReplicas == 0
}

func (t *turn) size(current, desired int32, statuses []autoscalingv2.MetricStatus) {
	s := &t.hpa.Status
	s.CurrentReplicas, s.DesiredReplicas, s.CurrentMetrics = current, desired, statuses
}

func (t *turn) warn(reason, format string, args ...any) {
	t.events.Eventf(t.hpa, corev1.EventTypeWarning, reason, format, args...)
}

// condition sets a condition; its time moves when its status changes.
func (t *turn) condition(kind autoscalingv2.HorizontalPodAutoscalerConditionType, status corev1.ConditionStatus, reason, format string, args ...any) {
	all := t.hpa.Status.Conditions
	i := slices.IndexFunc(all, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool { return c.Type == kind })
	if i < 0 {
		i = len(all)
		all = append(all, autoscalingv2.HorizontalPodAutoscalerCondition{Type: kind})
		t.hpa.Status.Conditions = all
	}
	c := &all[i]
	if c.Status != status {
		c.LastTransitionTime = metav1.NewTime(t.now)
	}
	generation := t.hpa.Generation
	c.Status, c.Reason, c.Message, c.ObservedGeneration = status, reason, fmt.Sprintf(format, args...), &generation
}

// scaleTarget is what an autoscaler sizes, as it was read.
type scaleTarget struct {
	def   *object.Definition
	obj   object.Object
	scale scale
}

// scale is what counts of a target's scale subresource.
type scale struct {
	Spec   struct{ Replicas int32 }
	Status struct {
		Replicas int32
		Selector string
	}
}

func (s *scaleTarget) String() string {
	return s.def.Kind + "/" + s.obj.GetNamespace() + "/" + s.obj.GetName()
}

// kindOf finds a kind in the version named, or in any.
func kindOf(s *object.Scheme, gvk schema.GroupVersionKind) *object.Definition {
	if d := s.ByKind(gvk); d != nil {
		return d
	}
	for _, d := range s.All() {
		if d.Group == gvk.Group && d.Kind == gvk.Kind {
			return d
		}
	}
	return nil
}

// target reads the scale of what the autoscaler refers to.
func (t *turn) target(ctx context.Context) (*scaleTarget, error) {
	ref := t.hpa.Spec.ScaleTargetRef
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil, err
	}
	d := kindOf(t.w.Scheme(), gv.WithKind(ref.Kind))
	if d == nil {
		return nil, fmt.Errorf("no matches for kind %q in group %q", ref.Kind, gv.Group)
	}
	if d.Scale == nil {
		return nil, errors.New("the server could not find the requested resource")
	}
	o, err := t.w.Get(ctx, d, t.hpa.Namespace, ref.Name)
	if err != nil {
		return nil, err
	}
	s := d.Scale.Get(o)
	out := &scaleTarget{def: d, obj: o}
	out.scale.Spec.Replicas = s.Spec.Replicas
	out.scale.Status.Replicas, out.scale.Status.Selector = s.Status.Replicas, s.Status.Selector
	return out, nil
}

// set changes the target's size.
func (s *scaleTarget) set(ctx context.Context, w client.Client, n int32) error {
	o := s.obj.DeepCopyObject().(object.Object)
	s.def.Scale.Set(o, n)
	_, err := w.Update(ctx, s.def, o, "")
	return err
}

// selected finds the target's pods.
func (t *turn) selected(target *scaleTarget) (labels.Selector, []*corev1.Pod, error) {
	text := target.scale.Status.Selector
	if text == "" {
		t.warn("SelectorRequired", "selector is required")
		t.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, "InvalidSelector", "the HPA target's scale is missing a selector")
		return nil, nil, errors.New("selector is required")
	}
	s, err := labels.Parse(text)
	if err != nil {
		err = fmt.Errorf("couldn't convert selector into a corresponding internal selector object: %w", err)
		t.warn("InvalidSelector", "%s", err)
		t.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, "InvalidSelector", "%s", err)
		return nil, nil, err
	}
	var pods []*corev1.Pod
	for _, p := range t.seen.By("namespace", t.hpa.Namespace) {
		if s.Matches(labels.Set(p.Digest.Labels)) {
			pods = append(pods, p.Object())
		}
	}
	if rivals := t.rivals(t.key, s, pods); len(rivals) > 1 {
		err := fmt.Errorf("pods by selector %s are controlled by multiple HPAs: [%s]", text, strings.Join(rivals, " "))
		t.warn("AmbiguousSelector", "%s", err)
		t.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, "AmbiguousSelector", "%s", err)
		return nil, nil, err
	}
	return s, pods, nil
}
