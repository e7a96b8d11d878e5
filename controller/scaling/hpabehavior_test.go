package scaling

import (
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

func rules(window int32, choose autoscalingv2.ScalingPolicySelect, policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	return &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &window, SelectPolicy: &choose, Policies: policies}
}

func pods(n, seconds int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: n, PeriodSeconds: seconds}
}

func percent(n, seconds int32) autoscalingv2.HPAScalingPolicy {
	return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: n, PeriodSeconds: seconds}
}

// TestBehavior gives an autoscaler between 1 and 100 a recommendation every 15
// seconds, and follows the sizes it sets.
func TestBehavior(t *testing.T) {
	const (
		most  = autoscalingv2.MaxChangePolicySelect
		least = autoscalingv2.MinChangePolicySelect
		off   = autoscalingv2.DisabledPolicySelect
	)
	usual := rules(0, most, pods(4, 15), percent(100, 15))
	fall := rules(300, most, percent(100, 15))
	type steps []int32
	for _, c := range []struct {
		name     string
		behavior *autoscalingv2.HorizontalPodAutoscalerBehavior
		start    int32
		want     steps // by metrics
		got      steps
		able     string // reasons of the last step
		limited  string
	}{
		{"without behavior, up to double", nil, 10, steps{50, 50, 50}, steps{20, 40, 50}, "ReadyForNewScale", "DesiredWithinRange"},
		{"and to four at least", nil, 1, steps{50}, steps{4}, "ReadyForNewScale", "ScaleUpLimit"},
		{"at most to the maximum", nil, 60, steps{500}, steps{100}, "ReadyForNewScale", "TooManyReplicas"},
		{"at least to the minimum", nil, 1, steps{0, 0}, steps{1, 1}, "ScaleDownStabilized", "DesiredWithinRange"},
		{"without behavior, down after five minutes", nil, 10, append(make(steps, 0), 5, 5, 5), steps{10, 10, 10}, "ScaleDownStabilized", "DesiredWithinRange"},
		{"the usual behavior up", &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: usual, ScaleDown: fall}, 3, steps{100, 100, 100, 100}, steps{7, 14, 28, 56}, "ReadyForNewScale", "ScaleUpLimit"},
		{"a pod a minute up", &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(0, most, pods(1, 60)), ScaleDown: fall}, 3, steps{9, 9, 9, 9, 9, 9}, steps{4, 4, 4, 4, 5, 5}, "ReadyForNewScale", "ScaleUpLimit"},
		{"the smaller of two policies", &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(0, least, pods(4, 15), percent(10, 15)), ScaleDown: fall}, 10, steps{50, 50}, steps{11, 13}, "ReadyForNewScale", "ScaleUpLimit"},
		{"up is switched off", &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(0, off, pods(4, 15)), ScaleDown: fall}, 3, steps{9}, steps{3}, "ReadyForNewScale", "ScaleUpLimit"},
		{"down is switched off", &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: usual, ScaleDown: rules(0, off, pods(4, 15))}, 9, steps{3}, steps{9}, "ReadyForNewScale", "ScaleDownLimit"},
		{"ten percent a minute down", &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: usual, ScaleDown: rules(0, most, percent(10, 60))}, 80, steps{10, 10, 10, 10, 10}, steps{72, 72, 72, 72, 64}, "ReadyForNewScale", "ScaleDownLimit"},
		{"the smaller of two ways down", &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: usual, ScaleDown: rules(0, least, percent(10, 15), pods(5, 15))}, 80, steps{10, 10}, steps{75, 70}, "ReadyForNewScale", "ScaleDownLimit"},
		{"at once down", &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: usual, ScaleDown: rules(0, most, percent(100, 15))}, 80, steps{10}, steps{10}, "ReadyForNewScale", "DesiredWithinRange"},
		{"below the minimum", &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: usual, ScaleDown: rules(0, most, percent(100, 15))}, 80, steps{0}, steps{1}, "ReadyForNewScale", "TooFewReplicas"},
		{"down waits for its window", &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: usual, ScaleDown: rules(30, most, percent(100, 15))}, 10, steps{5, 4, 3, 2}, steps{10, 10, 4, 3}, "ScaleDownStabilized", "DesiredWithinRange"},
		{"up waits for its window", &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(30, most, percent(900, 15)), ScaleDown: fall}, 10, steps{20, 30, 40, 50}, steps{10, 10, 30, 40}, "ScaleUpStabilized", "DesiredWithinRange"},
	} {
		h := &history{recommendations: []recommendation{{c.start, hpaNow}}}
		size, now := c.start, hpaNow
		var able, limited verdict
		var got steps
		for _, want := range c.want {
			in := bounds{1, 100, size, now}
			able = h.stabilize(c.behavior, want, in)
			limited = h.limit(c.behavior, able.replicas, in)
			if limited.replicas != size {
				h.scaled(c.behavior, size, limited.replicas, now)
				size = limited.replicas
			}
			got = append(got, size)
			now = now.Add(15 * time.Second)
		}
		same := len(got) == len(c.got)
		for i := range got {
			same = same && got[i] == c.got[i]
		}
		if !same || able.reason != c.able || limited.reason != c.limited {
			t.Errorf("%s: %v %s %s, want %v %s %s", c.name, got, able.reason, limited.reason, c.got, c.able, c.limited)
		}
	}
}

// TestHistoryIsBounded: what no window and no policy looks at is dropped.
func TestHistoryIsBounded(t *testing.T) {
	b := &autoscalingv2.HorizontalPodAutoscalerBehavior{
		ScaleUp: rules(0, autoscalingv2.MaxChangePolicySelect, pods(4, 30)), ScaleDown: rules(60, autoscalingv2.MaxChangePolicySelect, pods(4, 30)),
	}
	h := &history{}
	now := hpaNow
	for i := range int32(1000) {
		h.stabilize(b, i, bounds{1, 5000, i, now})
		h.scaled(b, i, i+1, now)
		h.scaled(b, i+1, i, now)
		now = now.Add(15 * time.Second)
	}
	if len(h.recommendations) > 8 || len(h.ups) > 4 || len(h.downs) > 4 {
		t.Errorf("%d recommendations, %d and %d changes", len(h.recommendations), len(h.ups), len(h.downs))
	}
}
