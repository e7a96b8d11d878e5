package autoscaling

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
)

const (
	maxWindow = 3600
	maxPeriod = 1800
)

func validateAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) (errs field.ErrorList) {
	s, p := &h.Spec, field.NewPath("spec")
	if s.MinReplicas != nil {
		switch n := *s.MinReplicas; {
		case n < 0:
			errs = append(errs, field.Invalid(p.Child("minReplicas"), n, "must be greater than or equal to 0"))
		case n == 0 && !scalesFromZero(s.Metrics):
			errs = append(errs, field.Forbidden(p.Child("metrics"), "must specify at least one Object or External metric to support scaling to zero replicas"))
		}
	}
	if s.MaxReplicas < 1 {
		errs = append(errs, field.Invalid(p.Child("maxReplicas"), s.MaxReplicas, "must be greater than 0"))
	}
	if s.MinReplicas != nil && s.MaxReplicas < *s.MinReplicas {
		errs = append(errs, field.Invalid(p.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	errs = append(errs, validateReference(s.ScaleTargetRef, p.Child("scaleTargetRef"))...)
	for i := range s.Metrics {
		errs = append(errs, validateMetric(&s.Metrics[i], p.Child("metrics").Index(i))...)
	}
	if b := s.Behavior; b != nil {
		errs = append(errs, validateRules(b.ScaleUp, p.Child("behavior", "scaleUp"))...)
		errs = append(errs, validateRules(b.ScaleDown, p.Child("behavior", "scaleDown"))...)
	}
	return errs
}

// scalesFromZero says whether a metric can still be measured without pods.
func scalesFromZero(metrics []autoscalingv2.MetricSpec) bool {
	for _, m := range metrics {
		if m.Type == autoscalingv2.ObjectMetricSourceType || m.Type == autoscalingv2.ExternalMetricSourceType {
			return true
		}
	}
	return false
}

func validateReference(r autoscalingv2.CrossVersionObjectReference, p *field.Path) field.ErrorList {
	errs := check.RequiredName(p.Child("kind"), r.Kind, path.IsValidPathSegmentName)
	return append(errs, check.RequiredName(p.Child("name"), r.Name, path.IsValidPathSegmentName)...)
}

func validateMetric(m *autoscalingv2.MetricSpec, p *field.Path) (errs field.ErrorList) {
	sources := []struct {
		t    autoscalingv2.MetricSourceType
		name string
		set  bool
	}{
		{autoscalingv2.ObjectMetricSourceType, "object", m.Object != nil}, {autoscalingv2.PodsMetricSourceType, "pods", m.Pods != nil},
		{autoscalingv2.ResourceMetricSourceType, "resource", m.Resource != nil}, {autoscalingv2.ExternalMetricSourceType, "external", m.External != nil},
		{autoscalingv2.ContainerResourceMetricSourceType, "containerResource", m.ContainerResource != nil},
	}
	if m.Type == "" {
		return append(errs, field.Required(p.Child("type"), "must specify a metric source type"))
	}
	known := check.OneOf(p.Child("type"), m.Type, autoscalingv2.ObjectMetricSourceType, autoscalingv2.PodsMetricSourceType,
		autoscalingv2.ResourceMetricSourceType, autoscalingv2.ExternalMetricSourceType, autoscalingv2.ContainerResourceMetricSourceType)
	if len(known) > 0 {
		return append(errs, known...)
	}
	for _, s := range sources {
		switch {
		case s.t == m.Type && !s.set:
			errs = append(errs, field.Required(p.Child(s.name), "must populate information for the given metric source"))
		case s.t != m.Type && s.set:
			errs = append(errs, field.Forbidden(p.Child(s.name), "must populate the given metric source only"))
		}
	}
	if s := m.Object; s != nil {
		p := p.Child("object")
		errs = append(errs, validateReference(s.DescribedObject, p.Child("describedObject"))...)
		errs = append(errs, validateIdentifier(s.Metric, p.Child("metric"))...)
		errs = append(errs, validateTarget(s.Target, p.Child("target"))...)
		if s.Target.Value == nil && s.Target.AverageValue == nil {
			errs = append(errs, field.Required(p.Child("target", "averageValue"), "must set either a target value or averageValue"))
		}
	}
	if s := m.Pods; s != nil {
		p := p.Child("pods")
		errs = append(errs, validateIdentifier(s.Metric, p.Child("metric"))...)
		errs = append(errs, validateTarget(s.Target, p.Child("target"))...)
		if s.Target.AverageValue == nil || s.Target.AverageValue.Sign() != 1 {
			errs = append(errs, field.Required(p.Child("target", "averageValue"), "must specify a positive target averageValue"))
		}
	}
	if s := m.External; s != nil {
		p := p.Child("external")
		errs = append(errs, validateIdentifier(s.Metric, p.Child("metric"))...)
		errs = append(errs, validateTarget(s.Target, p.Child("target"))...)
		switch {
		case s.Target.Value == nil && s.Target.AverageValue == nil:
			errs = append(errs, field.Required(p.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target"))
		case s.Target.Value != nil && s.Target.AverageValue != nil:
			errs = append(errs, field.Forbidden(p.Child("target", "value"), "may not set both a target value for metric and a per-pod target"))
		}
	}
	if s := m.Resource; s != nil {
		errs = append(errs, validateResource(string(s.Name), s.Target, p.Child("resource"))...)
	}
	if s := m.ContainerResource; s != nil {
		p := p.Child("containerResource")
		errs = append(errs, validateResource(string(s.Name), s.Target, p)...)
		errs = append(errs, check.Required(p.Child("container"), s.Container, "must specify a container name")...)
	}
	return errs
}

func validateResource(name string, t autoscalingv2.MetricTarget, p *field.Path) field.ErrorList {
	errs := check.Required(p.Child("name"), name, "must specify a resource name")
	errs = append(errs, validateTarget(t, p.Child("target"))...)
	switch {
	case t.AverageUtilization == nil && t.AverageValue == nil:
		errs = append(errs, field.Required(p.Child("target", "averageUtilization"), "must set either a target raw value or a target utilization"))
	case t.AverageUtilization != nil && t.AverageValue != nil:
		errs = append(errs, field.Forbidden(p.Child("target", "averageValue"), "may not set both a target raw value and a target utilization"))
	}
	return errs
}

func validateIdentifier(m autoscalingv2.MetricIdentifier, p *field.Path) field.ErrorList {
	errs := check.RequiredName(p.Child("name"), m.Name, path.IsValidPathSegmentName)
	return append(errs, metav1validation.ValidateLabelSelector(m.Selector, metav1validation.LabelSelectorValidationOptions{}, p.Child("selector"))...)
}

func validateTarget(t autoscalingv2.MetricTarget, p *field.Path) (errs field.ErrorList) {
	if t.Type == "" {
		errs = append(errs, field.Required(p.Child("type"), "must specify a metric target type"))
	} else {
		switch t.Type {
		case autoscalingv2.UtilizationMetricType, autoscalingv2.ValueMetricType, autoscalingv2.AverageValueMetricType:
		default:
			errs = append(errs, field.Invalid(p.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue"))
		}
	}
	for _, f := range []struct {
		name string
		q    *resource.Quantity
	}{{"value", t.Value}, {"averageValue", t.AverageValue}} {
		if f.q != nil && f.q.Sign() != 1 {
			errs = append(errs, field.Invalid(p.Child(f.name), f.q.String(), "must be positive"))
		}
	}
	if n := t.AverageUtilization; n != nil && *n < 1 {
		errs = append(errs, field.Invalid(p.Child("averageUtilization"), *n, "must be greater than 0"))
	}
	return errs
}

func validateRules(r *autoscalingv2.HPAScalingRules, p *field.Path) (errs field.ErrorList) {
	if r == nil {
		return nil
	}
	if n := r.StabilizationWindowSeconds; n != nil {
		p := p.Child("stabilizationWindowSeconds")
		if *n < 0 {
			errs = append(errs, field.Invalid(p, *n, "must be greater than or equal to zero"))
		}
		if *n > maxWindow {
			errs = append(errs, field.Invalid(p, *n, "must be less than or equal to 3600"))
		}
	}
	if r.SelectPolicy != nil {
		errs = append(errs, check.OneOf(p.Child("selectPolicy"), *r.SelectPolicy,
			autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect)...)
	}
	if r.Tolerance != nil {
		errs = append(errs, check.Quantity(p.Child("tolerance"), *r.Tolerance)...)
	}
	p = p.Child("policies")
	if len(r.Policies) == 0 {
		errs = append(errs, field.Required(p, "must specify at least one Policy"))
	}
	for i, policy := range r.Policies {
		p := p.Index(i)
		errs = append(errs, check.OneOf(p.Child("type"), policy.Type, autoscalingv2.PodsScalingPolicy, autoscalingv2.PercentScalingPolicy)...)
		if policy.Value <= 0 {
			errs = append(errs, field.Invalid(p.Child("value"), policy.Value, "must be greater than zero"))
		}
		if policy.PeriodSeconds <= 0 {
			errs = append(errs, field.Invalid(p.Child("periodSeconds"), policy.PeriodSeconds, "must be greater than zero"))
		}
		if policy.PeriodSeconds > maxPeriod {
			errs = append(errs, field.Invalid(p.Child("periodSeconds"), policy.PeriodSeconds, "must be less than or equal to 1800"))
		}
	}
	return errs
}

func validateAutoscalerStatus(h, _ *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	p := field.NewPath("status")
	errs := check.Nonnegative(p.Child("currentReplicas"), h.Status.CurrentReplicas)
	return append(errs, check.Nonnegative(p.Child("desiredReplicas"), h.Status.DesiredReplicas)...)
}
