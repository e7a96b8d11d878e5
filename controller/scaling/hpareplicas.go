package scaling

import (
	"errors"
	"fmt"
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"sagong/controller/podstate"
)

// Upstream's defaults: the change of a metric that is not worth one of size, the
// time in which processor use is not trusted because a pod starts, and the time
// within which a pod that turns unready was never ready.
const (
	defaultTolerance     = 0.1
	cpuInitialization    = 5 * time.Minute
	initialReadyingDelay = 30 * time.Second
)

// podMetric is what one pod shows, in thousandths.
type podMetric struct {
	at     time.Time
	window time.Duration
	value  int64
}

// tolerance is how far from 1 the ratio of a metric to its target may be without
// a change of size.
type tolerance struct{ up, down float64 }

func toleranceOf(b *autoscalingv2.HorizontalPodAutoscalerBehavior) tolerance {
	t := tolerance{defaultTolerance, defaultTolerance}
	if b == nil {
		return t
	}
	if r := b.ScaleUp; r != nil && r.Tolerance != nil {
		t.up = r.Tolerance.AsApproximateFloat64()
	}
	if r := b.ScaleDown; r != nil && r.Tolerance != nil {
		t.down = r.Tolerance.AsApproximateFloat64()
	}
	return t
}

func (t tolerance) holds(ratio float64) bool { return 1-t.down <= ratio && ratio <= 1+t.up }

// sizing is what a proposal is computed from.
type sizing struct {
	pods      []*corev1.Pod
	current   int32 // spec.replicas of the target
	tolerance tolerance
	now       time.Time
}

// groups are a target's pods by what their metrics are worth.
type groups struct {
	ready            int
	unready, missing []string // starting; without metrics
}

// group sorts pods; metrics of those that do not count are removed.
func (s *sizing) group(metrics map[string]podMetric, name corev1.ResourceName) groups {
	var g groups
	for _, p := range s.pods {
		if p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed {
			delete(metrics, p.Name)
			continue
		}
		if p.Status.Phase == corev1.PodPending {
			g.unready = append(g.unready, p.Name)
			delete(metrics, p.Name)
			continue
		}
		m, ok := metrics[p.Name]
		switch {
		case !ok:
			g.missing = append(g.missing, p.Name)
		case name == corev1.ResourceCPU && s.starting(p, m):
			g.unready = append(g.unready, p.Name)
			delete(metrics, p.Name)
		default:
			g.ready++
		}
	}
	return g
}

// starting says whether processor use of a pod is that of its start.
func (s *sizing) starting(p *corev1.Pod, m podMetric) bool {
	ready := podstate.Condition(p, corev1.PodReady)
	if ready == nil || p.Status.StartTime == nil {
		return true
	}
	start, turned := p.Status.StartTime.Time, ready.LastTransitionTime.Time
	if start.Add(cpuInitialization).After(s.now) {
		return ready.Status == corev1.ConditionFalse || m.at.Before(turned.Add(m.window))
	}
	return ready.Status == corev1.ConditionFalse && start.Add(initialReadyingDelay).After(turned)
}

var errNoReady = errors.New("did not receive metrics for targeted pods (pods might be unready)")

// average is the measure of a metric against its target: the ratio, and what to
// show.
type average func(metrics map[string]podMetric) (ratio float64, err error)

// propose is the size for which the average of a metric meets its target. Pods
// without metrics hold back a change in either direction, those that start hold
// back growth: fallback is what a pod without metrics counts as when the ratio
// is below one. strict leaves such pods out when the ratio is exactly one.
func (s *sizing) propose(metrics map[string]podMetric, g groups, ratio float64, measure average, fallback func(pod string) int64, strict bool) (int32, error) {
	growing := len(g.unready) > 0 && ratio > 1
	if !growing && len(g.missing) == 0 {
		if s.tolerance.holds(ratio) {
			return s.current, nil
		}
		return ceil(ratio * float64(g.ready)), nil
	}
	for _, p := range g.missing {
		switch {
		case ratio < 1:
			metrics[p] = podMetric{value: fallback(p)}
		case ratio > 1 || !strict:
			metrics[p] = podMetric{}
		}
	}
	if growing {
		for _, p := range g.unready {
			metrics[p] = podMetric{}
		}
	}
	again, err := measure(metrics)
	if err != nil {
		return 0, err
	}
	if s.tolerance.holds(again) || ratio < 1 && again > 1 || ratio > 1 && again < 1 {
		return s.current, nil
	}
	n := ceil(again * float64(len(metrics)))
	if again < 1 && n > s.current || again > 1 && n < s.current {
		return s.current, nil
	}
	return n, nil
}

// utilization proposes by the share of requests that is used. It returns the
// share in percent and the average use.
func (s *sizing) utilization(metrics map[string]podMetric, target int32, name corev1.ResourceName, container string) (n, percent int32, used int64, err error) {
	if len(s.pods) == 0 {
		return 0, 0, 0, errNoPods
	}
	g := s.group(metrics, name)
	if len(metrics) == 0 {
		return 0, 0, 0, errNoReady
	}
	requests := map[string]int64{}
	for _, p := range s.pods {
		if requests[p.Name], err = requestOf(p, name, container); err != nil {
			return 0, 0, 0, err
		}
	}
	measure := func(metrics map[string]podMetric) (float64, error) {
		var total, asked, pods int64
		for p, m := range metrics {
			if r, ok := requests[p]; ok {
				total, asked, pods = total+m.value, asked+r, pods+1
			}
		}
		if asked == 0 {
			return 0, errors.New("no metrics returned matched known pods")
		}
		percent, used = int32(total*100/asked), total/pods
		return float64(percent) / float64(target), nil
	}
	ratio, err := measure(metrics)
	if err != nil {
		return 0, 0, 0, err
	}
	shown, average := percent, used
	fallback := func(p string) int64 { return requests[p] * int64(max(100, target)) / 100 }
	n, err = s.propose(metrics, g, ratio, measure, fallback, true)
	return n, shown, average, err
}

// plain proposes by an average value a pod.
func (s *sizing) plain(metrics map[string]podMetric, target int64, name corev1.ResourceName) (n int32, used int64, err error) {
	if len(s.pods) == 0 {
		return 0, 0, errNoPods
	}
	g := s.group(metrics, name)
	if len(metrics) == 0 {
		return 0, 0, errNoReady
	}
	measure := func(metrics map[string]podMetric) (float64, error) {
		var total int64
		for _, m := range metrics {
			total += m.value
		}
		used = total / int64(len(metrics))
		return float64(used) / float64(target), nil
	}
	ratio, _ := measure(metrics)
	shown := used
	n, err = s.propose(metrics, g, ratio, measure, func(string) int64 { return target }, false)
	return n, shown, err
}

// whole proposes by one value for the whole target.
func (s *sizing) whole(value, target int64) (int32, error) {
	ratio := float64(value) / float64(target)
	if s.current == 0 {
		return ceil(ratio), nil
	}
	if s.tolerance.holds(ratio) {
		return s.current, nil
	}
	if len(s.pods) == 0 {
		return 0, fmt.Errorf("unable to calculate ready pods: %w", errNoPods)
	}
	ready := 0
	for _, p := range s.pods {
		if p.Status.Phase == corev1.PodRunning && podstate.Ready(p) {
			ready++
		}
	}
	return ceil(ratio * float64(ready)), nil
}

// shared proposes by one value divided among the pods; running is how many there
// are. It returns the share of each.
func (s *sizing) shared(value, target int64, running int32) (n int32, each int64) {
	n = running
	if ratio := float64(value) / (float64(target) * float64(running)); !s.tolerance.holds(ratio) {
		n = ceil(float64(value) / float64(target))
	}
	if running == 0 {
		return n, value
	}
	return n, int64(math.Ceil(float64(value) / float64(running)))
}

var errNoPods = errors.New("no pods returned by selector while calculating replica count")

// requestOf is what a pod's containers, or one of them, request.
func requestOf(p *corev1.Pod, name corev1.ResourceName, container string) (total int64, err error) {
	if container == "" && p.Spec.Resources != nil {
		if q, ok := p.Spec.Resources.Requests[name]; ok {
			return q.MilliValue(), nil
		}
	}
	add := func(c *corev1.Container) error {
		if container != "" && c.Name != container {
			return nil
		}
		q, ok := c.Resources.Requests[name]
		if !ok {
			return fmt.Errorf("missing request for %s in container %s of Pod %s", name, c.Name, p.Name)
		}
		total += q.MilliValue()
		return nil
	}
	for i := range p.Spec.Containers {
		if err := add(&p.Spec.Containers[i]); err != nil {
			return 0, err
		}
	}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			if err := add(c); err != nil {
				return 0, err
			}
		}
	}
	return total, nil
}

// ceil rounds up, within what a size can be.
func ceil(f float64) int32 {
	if f = math.Ceil(f); f < math.MaxInt32 {
		return int32(f)
	}
	return math.MaxInt32
}
