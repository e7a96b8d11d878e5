package autoscaling

import (
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/podspec"
)

const (
	maxWindow = 3600
	maxPeriod = 1800
)

func validateAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	return validateAutoscalerSpec(h, nil)
}

// validateAutoscalerSpec checks a specification; what refers to no group may go on
// to do so, as it could before that was looked at.
func validateAutoscalerSpec(h, old *autoscalingv2.HorizontalPodAutoscaler) (errs field.ErrorList) {
	s, p := &h.Spec, field.NewPath("spec")
	if s.MinReplicas != nil && s.MaxReplicas < *s.MinReplicas {
		errs = append(errs, field.Invalid(p.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	target, object := needsGroup, mayLackGroup
	switch ref := s.ScaleTargetRef; {
	case old != nil && old.Spec.ScaleTargetRef.APIVersion == ref.APIVersion && old.Spec.ScaleTargetRef.Kind == ref.Kind:
		target = anyVersion
	case ref.Kind == "ReplicationController": // the only one of core that scales
		target = mayLackGroup
	}
	if old != nil {
		for _, m := range old.Spec.Metrics {
			if m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil && checkVersion(m.Object.DescribedObject.APIVersion, object) != "" {
				object = anyVersion
			}
		}
	}
	errs = append(errs, validateReference(s.ScaleTargetRef, p.Child("scaleTargetRef"), target)...)
	for i := range s.Metrics {
		errs = append(errs, validateMetric(&s.Metrics[i], p.Child("metrics").Index(i), object)...)
	}
	if s.MinReplicas != nil && *s.MinReplicas == 0 && !scalesFromZero(s.Metrics) {
		errs = append(errs, field.Forbidden(p.Child("metrics"), "must specify at least one Object or External metric to support scaling to zero replicas"))
	}
	if b := s.Behavior; b != nil {
		errs = append(errs, validateRules(b.ScaleUp, p.Child("behavior", "scaleUp"))...)
		errs = append(errs, validateRules(b.ScaleDown, p.Child("behavior", "scaleDown"))...)
	}
	// What follows upstream declares beside the type.
	errs = append(errs, check.NonnegativePtr(p.Child("minReplicas"), s.MinReplicas)...)
	switch n := s.MaxReplicas; {
	case n == 0:
		errs = append(errs, field.Required(p.Child("maxReplicas"), ""))
	case n < 1:
		errs = append(errs, field.Invalid(p.Child("maxReplicas"), n, "must be greater than or equal to 1"))
	}
	return errs
}

func scalesFromZero(metrics []autoscalingv2.MetricSpec) bool {
	for _, m := range metrics {
		if m.Type == autoscalingv2.ObjectMetricSourceType || m.Type == autoscalingv2.ExternalMetricSourceType {
			return true
		}
	}
	return false
}

// versionRule says what the version in a reference must have.
type versionRule int

const (
	needsGroup versionRule = iota
	mayLackGroup
	anyVersion
)

// checkVersion returns what is wrong with the version in a reference.
func checkVersion(version string, rule versionRule) string {
	if rule == anyVersion {
		return ""
	}
	gv, err := schema.ParseGroupVersion(version)
	switch {
	case err != nil:
		return err.Error()
	case gv.Group == "" && rule == needsGroup:
		return "apiVersion must specify API group"
	}
	return ""
}

func validateReference(r autoscalingv2.CrossVersionObjectReference, p *field.Path, rule versionRule) field.ErrorList {
	errs := check.RequiredName(p.Child("kind"), r.Kind, path.IsValidPathSegmentName)
	errs = append(errs, check.RequiredName(p.Child("name"), r.Name, path.IsValidPathSegmentName)...)
	if msg := checkVersion(r.APIVersion, rule); msg != "" {
		errs = append(errs, field.Invalid(p.Child("apiVersion"), r.APIVersion, msg))
	}
	return errs
}

func validateMetric(m *autoscalingv2.MetricSpec, p *field.Path, object versionRule) (errs field.ErrorList) {
	known := check.OneOf(p.Child("type"), m.Type, autoscalingv2.ObjectMetricSourceType, autoscalingv2.PodsMetricSourceType,
		autoscalingv2.ResourceMetricSourceType, autoscalingv2.ExternalMetricSourceType, autoscalingv2.ContainerResourceMetricSourceType)
	if m.Type == "" {
		errs = append(errs, field.Required(p.Child("type"), "must specify a metric source type"))
	}
	errs = append(errs, known...)
	// Of several sources only the first is looked at.
	var set []string
	source := func(name string, is bool, validate func(*field.Path) field.ErrorList) {
		if !is {
			return
		}
		if set = append(set, name); len(set) == 1 {
			errs = append(errs, validate(p.Child(name))...)
		}
	}
	source("object", m.Object != nil, func(p *field.Path) field.ErrorList { return validateObjectMetric(m.Object, p, object) })
	source("external", m.External != nil, func(p *field.Path) field.ErrorList { return validateExternalMetric(m.External, p) })
	source("pods", m.Pods != nil, func(p *field.Path) field.ErrorList { return validatePodsMetric(m.Pods, p) })
	source("resource", m.Resource != nil, func(p *field.Path) field.ErrorList {
		errs := check.Required(p.Child("name"), string(m.Resource.Name), "must specify a resource name")
		return append(errs, validateResourceTarget(m.Resource.Target, p.Child("target"))...)
	})
	source("containerResource", m.ContainerResource != nil, func(p *field.Path) field.ErrorList {
		return validateContainerMetric(m.ContainerResource, p)
	})
	expected := map[autoscalingv2.MetricSourceType]string{
		autoscalingv2.ObjectMetricSourceType: "object", autoscalingv2.PodsMetricSourceType: "pods", autoscalingv2.ResourceMetricSourceType: "resource",
		autoscalingv2.ExternalMetricSourceType: "external", autoscalingv2.ContainerResourceMetricSourceType: "containerResource",
	}[m.Type]
	switch {
	case expected == "":
		errs = append(errs, known...) // said twice
	case !slices.Contains(set, expected):
		errs = append(errs, field.Required(p.Child(expected), "must populate information for the given metric source"))
	}
	if len(set) > 1 {
		for _, name := range set {
			if name != expected {
				errs = append(errs, field.Forbidden(p.Child(name), "must populate the given metric source only"))
			}
		}
	}
	return errs
}

func validateObjectMetric(s *autoscalingv2.ObjectMetricSource, p *field.Path, rule versionRule) field.ErrorList {
	errs := validateReference(s.DescribedObject, p.Child("describedObject"), rule)
	errs = append(errs, validateIdentifier(s.Metric, p.Child("metric"))...)
	errs = append(errs, validateTarget(s.Target, p.Child("target"))...)
	if s.Target.Value == nil && s.Target.AverageValue == nil {
		errs = append(errs, field.Required(p.Child("target", "averageValue"), "must set either a target value or averageValue"))
	}
	return errs
}

func validateExternalMetric(s *autoscalingv2.ExternalMetricSource, p *field.Path) field.ErrorList {
	errs := validateIdentifier(s.Metric, p.Child("metric"))
	errs = append(errs, validateTarget(s.Target, p.Child("target"))...)
	switch {
	case s.Target.Value == nil && s.Target.AverageValue == nil:
		errs = append(errs, field.Required(p.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target"))
	case s.Target.Value != nil && s.Target.AverageValue != nil:
		errs = append(errs, field.Forbidden(p.Child("target", "value"), "may not set both a target value for metric and a per-pod target"))
	}
	return errs
}

func validatePodsMetric(s *autoscalingv2.PodsMetricSource, p *field.Path) field.ErrorList {
	errs := validateIdentifier(s.Metric, p.Child("metric"))
	errs = append(errs, validateTarget(s.Target, p.Child("target"))...)
	if s.Target.AverageValue == nil {
		errs = append(errs, field.Required(p.Child("target", "averageValue"), "must specify a positive target averageValue"))
	}
	return errs
}

func validateContainerMetric(s *autoscalingv2.ContainerResourceMetricSource, p *field.Path) (errs field.ErrorList) {
	if s.Name == "" {
		errs = append(errs, field.Required(p.Child("name"), "must specify a resource name"))
	} else {
		errs = append(errs, podspec.ValidateContainerName(string(s.Name), p.Child("name"))...)
	}
	if s.Container == "" {
		errs = append(errs, field.Required(p.Child("container"), "must specify a container"))
	} else {
		errs = append(errs, check.Rule(p.Child("container"), s.Container, check.IsDNS1123Label)...)
	}
	return append(errs, validateResourceTarget(s.Target, p.Child("target"))...)
}

func validateResourceTarget(t autoscalingv2.MetricTarget, p *field.Path) field.ErrorList {
	errs := validateTarget(t, p)
	switch {
	case t.AverageUtilization == nil && t.AverageValue == nil:
		errs = append(errs, field.Required(p.Child("averageUtilization"), "must set either a target raw value or a target utilization"))
	case t.AverageUtilization != nil && t.AverageValue != nil:
		errs = append(errs, field.Forbidden(p.Child("averageValue"), "may not set both a target raw value and a target utilization"))
	}
	return errs
}

func validateIdentifier(m autoscalingv2.MetricIdentifier, p *field.Path) field.ErrorList {
	if m.Name == "" {
		return field.ErrorList{field.Required(p.Child("name"), "must specify a metric name")}
	}
	return check.Rule(p.Child("name"), m.Name, path.IsValidPathSegmentName)
}

func validateTarget(t autoscalingv2.MetricTarget, p *field.Path) (errs field.ErrorList) {
	if t.Type == "" {
		errs = append(errs, field.Required(p.Child("type"), "must specify a metric target type"))
	}
	switch t.Type {
	case autoscalingv2.UtilizationMetricType, autoscalingv2.ValueMetricType, autoscalingv2.AverageValueMetricType:
	default:
		errs = append(errs, field.Invalid(p.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue"))
	}
	for _, f := range []struct {
		name string
		q    *resource.Quantity
	}{{"value", t.Value}, {"averageValue", t.AverageValue}} {
		if f.q != nil && f.q.Sign() != 1 {
			errs = append(errs, field.Invalid(p.Child(f.name), f.q, "must be positive"))
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
	tolerance := p.Child("tolerance")
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
	if r.Tolerance != nil {
		errs = append(errs, check.Quantity(tolerance, *r.Tolerance)...)
	}
	return errs
}

func validateAutoscalerStatus(h, _ *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	p := field.NewPath("status")
	errs := check.Nonnegative(p.Child("currentReplicas"), h.Status.CurrentReplicas)
	return append(errs, check.Nonnegative(p.Child("desiredReplicas"), h.Status.DesiredReplicas)...)
}
