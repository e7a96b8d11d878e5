package workloads

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestRankForDeletion(t *testing.T) {
	pod := func(name string, change ...func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(start)},
			Spec:       corev1.PodSpec{NodeName: "n-" + name},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
				{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(start)},
			}},
		}
		for _, f := range change {
			f(p)
		}
		return p
	}
	since := func(d time.Duration) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(start.Add(d)) }
	}
	unready := func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
	on := func(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
	cost := func(c string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Annotations = map[string]string{podDeletionCost: c} }
	}
	want := []*corev1.Pod{
		pod("unassigned", on("")),
		pod("pending", func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }),
		pod("unready-restarted", unready, func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 3}} }),
		pod("unready", unready),
		pod("cheap", cost("-5")),
		pod("crowded-young", on("crowd"), since(50*time.Hour)),
		pod("crowded-old", on("crowd"), since(-1000*time.Hour)),
		pod("young", since(59*time.Hour)),
		pod("a-same-magnitude", since(time.Hour)),
		pod("b-same-magnitude", since(2*time.Hour)),
		pod("dear", cost("7")),
	}
	got := slices.Clone(want)
	slices.Reverse(got)
	rankForDeletion(got, got, start.Add(60*time.Hour))
	for i := range want {
		if got[i] != want[i] {
			var names []string
			for _, p := range got {
				names = append(names, p.Name)
			}
			t.Fatalf("place %d is %s; order %v", i, got[i].Name, names)
		}
	}
}
