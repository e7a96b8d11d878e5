package scaling

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestPlanBudget(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		name              string
		min, max          string
		pods, ready       int
		scale             int32
		allowed, desired  int32
		expected, healthy int32
	}{
		{"one may go", "", "1", 3, 3, 3, 1, 2, 3, 3},
		{"one is missing already", "", "1", 3, 2, 3, 0, 2, 3, 2},
		{"a share rounds up", "", "30%", 5, 5, 5, 2, 3, 5, 5},
		{"at least two", "2", "", 3, 3, 0, 1, 2, 3, 3},
		{"at least half", "50%", "", 3, 3, 4, 1, 2, 4, 3},
		{"no pods", "0", "", 0, 0, 0, 0, 0, 0, 0},
		{"none may go", "", "0", 2, 2, 2, 0, 2, 2, 2},
	} {
		b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Generation: 3}}
		if c.min != "" {
			v := intstr.Parse(c.min)
			b.Spec.MinAvailable = &v
		}
		if c.max != "" {
			v := intstr.Parse(c.max)
			b.Spec.MaxUnavailable = &v
		}
		var pods []*corev1.Pod
		for i := range c.pods {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i)}}
			if i < c.ready {
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			}
			pods = append(pods, p)
		}
		if _, err := planBudget(b, pods, c.scale, now); err != nil {
			t.Fatal(err)
		}
		s := b.Status
		if s.DisruptionsAllowed != c.allowed || s.DesiredHealthy != c.desired || s.ExpectedPods != c.expected || s.CurrentHealthy != c.healthy || s.ObservedGeneration != 3 {
			t.Errorf("%s: %+v", c.name, s)
		}
		if want := map[bool]string{true: "SufficientPods", false: "InsufficientPods"}[c.allowed > 0]; s.Conditions[0].Reason != want {
			t.Errorf("%s: %+v", c.name, s.Conditions)
		}
		if c.pods > 0 && c.ready > 0 {
			b.Status.DisruptedPods = map[string]metav1.Time{"p0": metav1.NewTime(now.Add(-time.Minute)), "gone": metav1.NewTime(now)}
			after, err := planBudget(b, pods, c.scale, now)
			if err != nil || after != time.Minute || b.Status.CurrentHealthy != c.healthy-1 || len(b.Status.DisruptedPods) != 1 {
				t.Errorf("%s, one disrupted: %v %+v", c.name, after, b.Status)
			}
			if _, err := planBudget(b, pods, c.scale, now.Add(2*time.Minute)); err != nil || b.Status.CurrentHealthy != c.healthy || b.Status.DisruptedPods != nil {
				t.Errorf("%s, later: %+v", c.name, b.Status)
			}
		}
	}
}
