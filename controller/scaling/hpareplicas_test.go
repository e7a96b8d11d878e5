package scaling

import (
	"fmt"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var hpaNow = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// hpaPod is one pod of a case, with what its metrics say; use below zero: no
// metrics.
type hpaPod struct {
	use, request int64
	state        string // "", unready, hot (ready, but started just now), never (unready since its start), pending, failed, deleted
}

func (c hpaPod) pod(i int) *corev1.Pod {
	ready, start, turned := corev1.ConditionTrue, time.Hour, 50*time.Minute
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i)}}
	p.Status.Phase = corev1.PodRunning
	switch c.state {
	case "unready":
		ready, start, turned = corev1.ConditionFalse, time.Minute, time.Minute
	case "later unready":
		ready = corev1.ConditionFalse
	case "never":
		ready, turned = corev1.ConditionFalse, time.Hour
	case "hot":
		start, turned = time.Minute, 10*time.Second
	case "pending":
		p.Status.Phase = corev1.PodPending
	case "failed":
		p.Status.Phase = corev1.PodFailed
	case "deleted":
		p.DeletionTimestamp = &metav1.Time{Time: hpaNow}
	}
	began := metav1.NewTime(hpaNow.Add(-start))
	p.Status.StartTime = &began
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready, LastTransitionTime: metav1.NewTime(hpaNow.Add(-turned))}}
	c1 := corev1.Container{Name: "c"}
	if c.request > 0 {
		c1.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(c.request, resource.DecimalSI)}
	}
	p.Spec.Containers = []corev1.Container{c1}
	return p
}

func uses(state string, request int64, uses ...int64) (all []hpaPod) {
	for _, u := range uses {
		all = append(all, hpaPod{u, request, state})
	}
	return all
}

func sizingOf(pods []hpaPod, current int32) (*sizing, map[string]podMetric) {
	s := &sizing{current: current, tolerance: toleranceOf(nil), now: hpaNow}
	metrics := map[string]podMetric{}
	for i, c := range pods {
		s.pods = append(s.pods, c.pod(i))
		if c.use >= 0 {
			metrics[fmt.Sprint("p", i)] = podMetric{at: hpaNow, window: time.Minute, value: c.use}
		}
	}
	return s, metrics
}

// TestUtilization holds the cases of upstream's documentation and tests of the
// algorithm: shares of requests, starting pods, missing metrics.
func TestUtilization(t *testing.T) {
	join := func(all ...[]hpaPod) (out []hpaPod) {
		for _, a := range all {
			out = append(out, a...)
		}
		return out
	}
	for _, c := range []struct {
		name    string
		pods    []hpaPod
		target  int32
		current int32
		want    int32
		percent int32
		used    int64
		err     string
	}{
		{"up", uses("", 1000, 300, 500, 700), 30, 3, 5, 50, 500, ""},
		{"down", uses("", 1000, 100, 300, 500, 250, 250), 50, 5, 3, 28, 280, ""},
		{"within tolerance", uses("", 1000, 1020, 1030, 1020), 100, 3, 3, 102, 1023, ""},
		{"a percent below it", uses("", 1000, 890, 890), 100, 4, 2, 89, 890, ""},
		{"unready pods count as nothing", join(uses("unready", 1000, 300), uses("", 1000, 500, 700)), 30, 3, 4, 60, 600, ""},
		{"so do those that have just started", join(uses("hot", 1000, 300), uses("", 1000, 500, 700)), 30, 3, 4, 60, 600, ""},
		{"and those never ready", join(uses("never", 1000, 300), uses("", 1000, 500, 700)), 30, 3, 4, 60, 600, ""},
		{"one unready later counts", join(uses("later unready", 1000, 300), uses("", 1000, 500, 700)), 30, 3, 5, 50, 500, ""},
		{"pending pods hold growth back", join(uses("", 1000, 500), uses("pending", 1000, -1, -1)), 30, 3, 3, 50, 500, ""},
		{"failed pods are not there", join(uses("", 1000, 500, 700), uses("failed", 1000, -1, -1)), 30, 2, 4, 60, 600, ""},
		{"nor those being deleted", join(uses("", 1000, 500, 700), uses("deleted", 1000, 900, -1)), 30, 2, 4, 60, 600, ""},
		{"missing metrics, at the target", uses("", 1000, 1000, -1), 100, 2, 2, 100, 1000, ""},
		{"missing metrics, above it", uses("", 1000, 1900, -1), 100, 2, 2, 190, 1900, ""},
		{"missing metrics, below it", uses("", 1000, 600, -1), 100, 2, 2, 60, 600, ""},
		{"missing metrics with a high target", uses("", 1000, 1000, -1), 150, 2, 2, 100, 1000, ""},
		{"missing and unready, no growth", join(uses("unready", 1000, 100), uses("", 1000, 450, -1)), 50, 3, 3, 45, 450, ""},
		{"missing and unready, growth", join(uses("unready", 1000, 100), uses("", 1000, 2000, -1)), 50, 3, 4, 200, 2000, ""},
		{"far fewer", uses("", 100, 10, 10, 10, 10, 10), 100, 5, 1, 10, 10, ""},
		{"no request", uses("", 0, 100), 50, 1, 0, 0, 0, "missing request for cpu in container c of Pod p0"},
		{"no pods", nil, 50, 1, 0, 0, 0, "no pods returned by selector while calculating replica count"},
		{"no metrics", uses("unready", 100, 10), 50, 1, 0, 0, 0, "did not receive metrics for targeted pods (pods might be unready)"},
	} {
		s, metrics := sizingOf(c.pods, c.current)
		n, percent, used, err := s.utilization(metrics, c.target, corev1.ResourceCPU, "")
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil || n != c.want || percent != c.percent || used != c.used {
			t.Errorf("%s: %d pods, %d%%, %dm, %v; want %d, %d, %d", c.name, n, percent, used, err, c.want, c.percent, c.used)
		}
	}
}

func TestPlainAndWholeValues(t *testing.T) {
	for _, c := range []struct {
		name    string
		pods    []hpaPod
		target  int64
		current int32
		want    int32
		used    int64
	}{
		{"up", uses("", 0, 20000, 10000, 30000), 15000, 3, 4, 20000},
		{"down", uses("", 0, 12000, 12000, 12000, 12000, 12000), 20000, 5, 3, 12000},
		{"within tolerance", uses("", 0, 20000, 21000, 21000), 20000, 3, 3, 20666},
		{"pods that start count for metrics that are not processor time", uses("unready", 0, 50000, 10000, 30000), 15000, 3, 6, 30000},
		{"missing, below", uses("", 0, 9000, -1), 20000, 2, 2, 9000},
		{"missing, above", uses("", 0, 60000, -1), 20000, 2, 3, 60000},
	} {
		s, metrics := sizingOf(c.pods, c.current)
		n, used, err := s.plain(metrics, c.target, "")
		if err != nil || n != c.want || used != c.used {
			t.Errorf("%s: %d %d %v, want %d %d", c.name, n, used, err, c.want, c.used)
		}
	}
	for _, c := range []struct {
		name          string
		pods          []hpaPod
		value, target int64
		current, want int32
	}{
		{"up", uses("", 0, 0, 0, 0), 20000, 15000, 3, 4},
		{"only ready pods are multiplied", append(uses("", 0, 0, 0), uses("unready", 0, 0)...), 30000, 15000, 3, 4},
		{"within tolerance", uses("", 0, 0), 10900, 10000, 1, 1},
		{"from nothing", nil, 25000, 10000, 0, 3},
		{"to nothing", uses("", 0, 0, 0), 0, 10000, 2, 0},
	} {
		s, _ := sizingOf(c.pods, c.current)
		if n, err := s.whole(c.value, c.target); err != nil || n != c.want {
			t.Errorf("whole, %s: %d %v, want %d", c.name, n, err, c.want)
		}
	}
	s, _ := sizingOf(nil, 3)
	for _, c := range []struct {
		value, target int64
		running, want int32
		each          int64
	}{{20000, 5000, 3, 4, 6667}, {6000, 2000, 3, 3, 2000}, {6100, 2000, 3, 3, 2034}, {8600, 9444, 5, 1, 1720}, {5000, 1000, 0, 5, 5000}} {
		if n, each := s.shared(c.value, c.target, c.running); n != c.want || each != c.each {
			t.Errorf("%d of %d for %d: %d %d", c.value, c.target, c.running, n, each)
		}
	}
}

func TestTolerance(t *testing.T) {
	fine, coarse := resource.MustParse("0.01"), resource.MustParse("0.5")
	tol := toleranceOf(&autoscalingv2.HorizontalPodAutoscalerBehavior{
		ScaleUp: &autoscalingv2.HPAScalingRules{Tolerance: &fine}, ScaleDown: &autoscalingv2.HPAScalingRules{Tolerance: &coarse},
	})
	for ratio, want := range map[float64]bool{1: true, 1.005: true, 1.02: false, 0.6: true, 0.4: false} {
		if tol.holds(ratio) != want {
			t.Errorf("%v: %v", ratio, !want)
		}
	}
}
