package autoscaling

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"sagong/kinds/fill"
)

func defaultAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) {
	fill.Ptr(&h.Spec.MinReplicas, 1)
	if len(h.Spec.Metrics) == 0 {
		h.Spec.Metrics = []autoscalingv2.MetricSpec{cpuUtilization(80)}
	}
	b := h.Spec.Behavior
	if b == nil {
		return
	}
	// Up: at once, four pods or double the number in 15 s, whichever is more.
	// Down: to the minimum in one step, after the cluster-wide window.
	defaultRules(&b.ScaleUp, []autoscalingv2.HPAScalingPolicy{
		{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15},
		{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
	})
	fill.Ptr(&b.ScaleUp.StabilizationWindowSeconds, 0)
	defaultRules(&b.ScaleDown, []autoscalingv2.HPAScalingPolicy{
		{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
	})
}

func defaultRules(rules **autoscalingv2.HPAScalingRules, policies []autoscalingv2.HPAScalingPolicy) {
	fill.Ptr(rules, autoscalingv2.HPAScalingRules{})
	fill.Ptr(&(*rules).SelectPolicy, autoscalingv2.MaxChangePolicySelect)
	if (*rules).Policies == nil {
		(*rules).Policies = policies
	}
}
