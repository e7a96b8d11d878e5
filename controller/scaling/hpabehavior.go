package scaling

import (
	"math"
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// downscaleWindow is how long the highest recommendation is kept to before a
// scale-down, unless behavior says otherwise; upstream's default.
const downscaleWindow = 5 * time.Minute

// history is what is remembered of one autoscaler between its handlings. It is
// lost with the process, as upstream's is: the first recommendation then is the
// size found.
type history struct {
	recommendations []recommendation
	ups, downs      []scaleEvent
	size            int32 // that the target was found with, or was given, last
}

// found tells of the size that the target has. When somebody else made it larger,
// perhaps another leader of whose reasons nothing is remembered here, that counts
// as a recommendation, as the first size does. Upstream goes down at once.
func (h *history) found(size int32, now time.Time) {
	if size > h.size || len(h.recommendations) == 0 {
		h.recommendations = append(h.recommendations, recommendation{size, now})
	}
	h.size = size
}

// recommendation is the size that the metrics asked for at one time.
type recommendation struct {
	replicas int32
	at       time.Time
}

// scaleEvent is a change of size; n is positive both ways.
type scaleEvent struct {
	n  int32
	at time.Time
}

// bounds are what a recommendation is brought into.
type bounds struct {
	min, max, current int32
	now               time.Time
}

// verdict is a size with the condition that explains it.
type verdict struct {
	replicas        int32
	reason, message string
}

var withinRange = verdict{reason: "DesiredWithinRange", message: "the desired count is within the acceptable range"}

func (v verdict) of(n int32) verdict { v.replicas = n; return v }

var (
	tooMany    = verdict{reason: "TooManyReplicas", message: "the desired replica count is more than the maximum replica count"}
	tooFew     = verdict{reason: "TooFewReplicas", message: "the desired replica count is less than the minimum replica count"}
	tooFastUp  = verdict{reason: "ScaleUpLimit", message: "the desired replica count is increasing faster than the maximum scale rate"}
	tooFastOff = verdict{reason: "ScaleDownLimit", message: "the desired replica count is decreasing faster than the maximum scale rate"}
	lowerFirst = verdict{reason: "ScaleUpStabilized", message: "recent recommendations were lower than current one, applying the lowest recent recommendation"}
	highFirst  = verdict{reason: "ScaleDownStabilized", message: "recent recommendations were higher than current one, applying the highest recent recommendation"}
	steady     = verdict{reason: "ReadyForNewScale", message: "recommended size matches current size"}
)

// stabilize brings a recommendation in line with those of the recent past and
// remembers it: up to the lowest of the window for going up, down to the highest
// of the window for going down.
func (h *history) stabilize(b *autoscalingv2.HorizontalPodAutoscalerBehavior, want int32, in bounds) verdict {
	var up, down time.Duration
	if b == nil {
		down = downscaleWindow
	} else {
		up, down = window(b.ScaleUp, 0), window(b.ScaleDown, downscaleWindow)
	}
	lowest, highest := want, want
	old := -1
	for i, r := range h.recommendations {
		age := in.now.Sub(r.at)
		if age < up {
			lowest = min(lowest, r.replicas)
		}
		if age < down {
			highest = max(highest, r.replicas)
		}
		if age > up && age > down {
			old = i
		}
	}
	fresh := recommendation{want, in.now}
	if old >= 0 {
		h.recommendations[old] = fresh
	} else {
		h.recommendations = append(h.recommendations, fresh)
	}
	got := highest
	if b != nil {
		got = min(max(in.current, lowest), highest)
	}
	switch {
	case got == want:
		return steady.of(got)
	case b != nil && want >= in.current:
		return lowerFirst.of(got)
	default:
		return highFirst.of(got)
	}
}

func window(r *autoscalingv2.HPAScalingRules, otherwise time.Duration) time.Duration {
	if r == nil || r.StabilizationWindowSeconds == nil {
		return otherwise
	}
	return time.Duration(*r.StabilizationWindowSeconds) * time.Second
}

// limit brings a stabilized size into the range and the rates allowed.
func (h *history) limit(b *autoscalingv2.HorizontalPodAutoscalerBehavior, want int32, in bounds) verdict {
	if b == nil {
		return limitPlain(want, in)
	}
	switch {
	case want > in.current:
		most, why := in.max, tooMany
		if fastest := max(in.current, h.fastestUp(b.ScaleUp, in)); most > fastest {
			most, why = fastest, tooFastUp
		}
		if want > most {
			return why.of(most)
		}
	case want < in.current:
		least, why := in.min, tooFew
		if fastest := min(in.current, h.fastestDown(b.ScaleDown, in)); least < fastest {
			least, why = fastest, tooFastOff
		}
		if want < least {
			return why.of(least)
		}
	}
	return withinRange.of(want)
}

// limitPlain is the rule without behavior: up to double, and at least to four.
func limitPlain(want int32, in bounds) verdict {
	most, why := in.max, tooMany
	if double := max(2*in.current, 4); most > double {
		most, why = double, tooFastUp
	}
	switch {
	case want < in.min:
		return tooFew.of(in.min)
	case want > most:
		return why.of(most)
	}
	return withinRange.of(want)
}

// fastestUp is the largest size that the policies for going up allow now.
func (h *history) fastestUp(r *autoscalingv2.HPAScalingRules, in bounds) int32 {
	return h.fastest(r, in, largest, smallest, func(start int32, p autoscalingv2.HPAScalingPolicy) int32 {
		if p.Type == autoscalingv2.PodsScalingPolicy {
			return start + p.Value
		}
		// Rounded up, or a small target could never grow.
		return int32(math.Ceil(float64(start) * (1 + float64(p.Value)/100)))
	})
}

// fastestDown is the smallest size that the policies for going down allow now.
func (h *history) fastestDown(r *autoscalingv2.HPAScalingRules, in bounds) int32 {
	return h.fastest(r, in, smallest, largest, func(start int32, p autoscalingv2.HPAScalingPolicy) int32 {
		if p.Type == autoscalingv2.PodsScalingPolicy {
			return start - p.Value
		}
		return int32(float64(start) * (1 - float64(p.Value)/100))
	})
}

func largest(a, b int32) int32  { return max(a, b) }
func smallest(a, b int32) int32 { return min(a, b) }

// fastest chooses among the sizes that policies propose, each counted from the
// size at the beginning of its period: most for the policy Max, least for Min.
func (h *history) fastest(r *autoscalingv2.HPAScalingRules, in bounds, most, least func(a, b int32) int32, propose func(start int32, p autoscalingv2.HPAScalingPolicy) int32) int32 {
	pick := most
	if r.SelectPolicy != nil {
		switch *r.SelectPolicy {
		case autoscalingv2.DisabledPolicySelect:
			return in.current
		case autoscalingv2.MinChangePolicySelect:
			pick = least
		}
	}
	result := in.current
	for i, p := range r.Policies {
		period := time.Duration(p.PeriodSeconds) * time.Second
		n := propose(in.current-changed(h.ups, period, in.now)+changed(h.downs, period, in.now), p)
		if i > 0 {
			n = pick(result, n)
		}
		result = n
	}
	return result
}

// changed is by how many the size changed in the last period.
func changed(events []scaleEvent, period time.Duration, now time.Time) (n int32) {
	for _, e := range events {
		if now.Sub(e.at) < period {
			n += e.n
		}
	}
	return n
}

// scaled remembers a change of size, for the rates of behavior.
func (h *history) scaled(b *autoscalingv2.HorizontalPodAutoscalerBehavior, from, to int32, now time.Time) {
	if b == nil {
		return
	}
	if to > from {
		h.ups = append(recent(h.ups, b.ScaleUp, now), scaleEvent{to - from, now})
	} else {
		h.downs = append(recent(h.downs, b.ScaleDown, now), scaleEvent{from - to, now})
	}
}

// recent drops the events that no policy looks at any more.
func recent(events []scaleEvent, r *autoscalingv2.HPAScalingRules, now time.Time) []scaleEvent {
	var longest time.Duration
	for _, p := range r.Policies {
		longest = max(longest, time.Duration(p.PeriodSeconds)*time.Second)
	}
	return slices.DeleteFunc(events, func(e scaleEvent) bool { return now.Sub(e.at) > longest })
}
