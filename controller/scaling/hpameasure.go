package scaling

import (
	"context"
	"errors"
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
)

// measure computes the size that each metric asks for and returns the largest
// with that metric's description. With some metrics unknown a size is only
// raised; with all unknown, or when it would fall, the size is -1 and the error
// says why.
func (t *turn) measure(ctx context.Context, target *scaleTarget) (int32, string, []autoscalingv2.MetricStatus, error) {
	selector, pods, err := t.selected(target)
	if err != nil {
		return -1, "", nil, err
	}
	specs := t.hpa.Spec.Metrics
	statuses := make([]autoscalingv2.MetricStatus, len(specs))
	most, best := int32(-1), ""
	var (
		failed int
		first  error
		reason string
	)
	s := &sizing{pods: pods, current: target.scale.Spec.Replicas, tolerance: toleranceOf(t.hpa.Spec.Behavior), now: t.now}
	for i := range specs {
		p, err := t.one(ctx, target, selector, s, &specs[i], &statuses[i])
		if err != nil {
			t.warn(p.failed, "%s", errors.Unwrap(err))
			if failed++; first == nil {
				first, reason = err, p.failed
			}
			continue
		}
		if p.replicas > most {
			most, best = p.replicas, p.metric
		}
	}
	if first == nil {
		t.condition(autoscalingv2.ScalingActive, corev1.ConditionTrue, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from %s", best)
		return most, best, statuses, nil
	}
	err = fmt.Errorf("invalid metrics (%d invalid out of %d), first error is: %w", failed, len(specs), first)
	if failed == len(specs) || most < s.current {
		t.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, reason, "the HPA was unable to compute the replica count: %v", errors.Unwrap(first))
		return -1, "", statuses, err
	}
	t.condition(autoscalingv2.ScalingActive, corev1.ConditionTrue, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from %s", best)
	return most, best, statuses, err
}

// proposal is the size that one metric asks for.
type proposal struct {
	replicas int32
	metric   string // for people
	failed   string // the reason when it could not be had
}

// one computes the proposal of a metric and what to show of it. Its error wraps
// the one that conditions and events give.
func (t *turn) one(ctx context.Context, target *scaleTarget, selector labels.Selector, s *sizing, m *autoscalingv2.MetricSpec, status *autoscalingv2.MetricStatus) (p proposal, err error) {
	namespace, running := t.hpa.Namespace, target.scale.Status.Replicas
	status.Type = m.Type
	what := ""
	switch m.Type {
	case autoscalingv2.ResourceMetricSourceType:
		p.failed, what = "FailedGetResourceMetric", string(m.Resource.Name)+" resource metric value"
		status.Resource = &autoscalingv2.ResourceMetricStatus{Name: m.Resource.Name}
		p.replicas, p.metric, err = t.byResource(ctx, selector, s, m.Resource.Name, "", m.Resource.Target, &status.Resource.Current)
	case autoscalingv2.ContainerResourceMetricSourceType:
		c := m.ContainerResource
		p.failed, what = "FailedGetContainerResourceMetric", c.Container+" container metric value"
		status.ContainerResource = &autoscalingv2.ContainerResourceMetricStatus{Name: c.Name, Container: c.Container}
		p.replicas, p.metric, err = t.byResource(ctx, selector, s, c.Name, c.Container, c.Target, &status.ContainerResource.Current)
	case autoscalingv2.PodsMetricSourceType:
		p.failed, what = "FailedGetPodsMetric", "pods metric value"
		p.metric = "pods metric " + m.Pods.Metric.Name
		status.Pods = &autoscalingv2.PodsMetricStatus{Metric: m.Pods.Metric}
		var metrics map[string]podMetric
		if metrics, err = t.meter.pods(ctx, namespace, selector, &m.Pods.Metric); err != nil {
			err = fmt.Errorf("unable to get metric %s: %w", m.Pods.Metric.Name, err)
			break
		}
		var used int64
		p.replicas, used, err = s.plain(metrics, m.Pods.Target.AverageValue.MilliValue(), "")
		status.Pods.Current.AverageValue = milli(used)
	case autoscalingv2.ObjectMetricSourceType:
		o := m.Object
		p.failed, what = "FailedGetObjectMetric", "object metric value"
		status.Object = &autoscalingv2.ObjectMetricStatus{DescribedObject: o.DescribedObject, Metric: o.Metric}
		var value int64
		if value, err = t.meter.object(ctx, t.w.Scheme(), namespace, o.DescribedObject, &o.Metric); err != nil {
			err = fmt.Errorf("unable to get metric %s on %s %s/%s: %w", o.Metric.Name, o.DescribedObject.Kind, namespace, o.DescribedObject.Name, err)
			break
		}
		p.replicas, p.metric, err = byValue(s, value, running, o.Target, fmt.Sprintf("%s metric %s", o.DescribedObject.Kind, o.Metric.Name), &o.Metric, &status.Object.Current)
	case autoscalingv2.ExternalMetricSourceType:
		e := m.External
		p.failed, what = "FailedGetExternalMetric", e.Metric.Name+" external metric value"
		status.External = &autoscalingv2.ExternalMetricStatus{Metric: e.Metric}
		var value int64
		if value, err = t.meter.external(ctx, namespace, &e.Metric); err != nil {
			err = fmt.Errorf("unable to get external metric %s/%s/%+v: %w", namespace, e.Metric.Name, e.Metric.Selector, err)
			break
		}
		name := fmt.Sprintf("external metric %s(%+v)", e.Metric.Name, e.Metric.Selector)
		p.replicas, p.metric, err = byValue(s, value, running, e.Target, name, &e.Metric, &status.External.Current)
	default:
		p.failed, what = "InvalidMetricSourceType", "metric"
		err = fmt.Errorf("unknown metric source type %q", m.Type)
	}
	if err != nil {
		*status = autoscalingv2.MetricStatus{}
		return p, fmt.Errorf("failed to get %s: %w", what, err)
	}
	return p, nil
}

func milli(n int64) *resource.Quantity { return resource.NewMilliQuantity(n, resource.DecimalSI) }

// byResource follows processor time or memory.
func (t *turn) byResource(ctx context.Context, selector labels.Selector, s *sizing, name corev1.ResourceName, container string, target autoscalingv2.MetricTarget, show *autoscalingv2.MetricValueStatus) (int32, string, error) {
	wanted := "utilization"
	if target.AverageValue != nil {
		wanted = "usage"
	}
	fail := func(err error) (int32, string, error) {
		return 0, "", fmt.Errorf("failed to get %s %s: %w", name, wanted, err)
	}
	metrics, err := t.meter.resource(ctx, t.w, t.hpa.Namespace, selector, name, container)
	if err != nil {
		return fail(fmt.Errorf("unable to get metrics for resource %s: %w", name, err))
	}
	switch {
	case target.AverageValue != nil:
		n, used, err := s.plain(metrics, target.AverageValue.MilliValue(), name)
		if err != nil {
			return fail(err)
		}
		show.AverageValue = milli(used)
		return n, string(name) + " resource", nil
	case target.AverageUtilization != nil:
		n, percent, used, err := s.utilization(metrics, *target.AverageUtilization, name, container)
		if err != nil {
			return fail(err)
		}
		show.AverageUtilization, show.AverageValue = &percent, milli(used)
		kind := "resource"
		if container != "" {
			kind = "container resource"
		}
		return n, fmt.Sprintf("%s %s utilization (percentage of request)", name, kind), nil
	}
	return 0, "", errors.New("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")
}

// byValue follows one value: as it is, or divided among the pods.
func byValue(s *sizing, value int64, running int32, target autoscalingv2.MetricTarget, name string, id *autoscalingv2.MetricIdentifier, show *autoscalingv2.MetricValueStatus) (int32, string, error) {
	switch {
	case target.AverageValue != nil:
		n, each := s.shared(value, target.AverageValue.MilliValue(), running)
		show.AverageValue = milli(each)
		return n, fmt.Sprintf("external metric %s(%+v)", id.Name, id.Selector), nil
	case target.Value != nil:
		n, err := s.whole(value, target.Value.MilliValue())
		show.Value = milli(value)
		return n, name, err
	}
	return 0, "", errors.New("invalid metric source: neither a value target nor an average value target was set")
}
