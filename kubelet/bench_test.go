package kubelet_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
)

// BenchmarkPodStart measures create to Running and the delete after it, one pod
// at a time, over the native runtime.
func BenchmarkPodStart(b *testing.B) {
	m := newRealMachine(b)
	one := int64(0)
	i := 0
	for b.Loop() {
		i++
		name := fmt.Sprintf("p%d", i)
		m.create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: "n1", TerminationGracePeriodSeconds: &one, Containers: []corev1.Container{shell("a", "exec sleep 1000")}}})
		m.await(name, "running", running)
		b.StopTimer()
		if err := client.Delete[*corev1.Pod](b.Context(), m.api, "default", name, metav1.DeleteOptions{}); err != nil {
			b.Fatal(err)
		}
		m.await(name, "gone", gone)
		b.StartTimer()
	}
}

// BenchmarkHundredPods measures a hundred pods at once, create to all Running.
func BenchmarkHundredPods(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		m := newRealMachine(b)
		b.StartTimer()
		one := int64(1)
		for i := range 100 {
			m.create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("p", i)}, Spec: corev1.PodSpec{NodeName: "n1", TerminationGracePeriodSeconds: &one, Containers: []corev1.Container{shell("a", "exec sleep 1000")}}})
		}
		for i := range 100 {
			m.await(fmt.Sprint("p", i), "running", running)
		}
	}
}

// BenchmarkHundredDeletes measures a hundred pods from delete to gone.
func BenchmarkHundredDeletes(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		m := newRealMachine(b)
		for i := range 100 {
			m.create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("p", i)}, Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{shell("a", "trap 'exit 0' TERM; sleep 1000 & wait")}}})
		}
		for i := range 100 {
			m.await(fmt.Sprint("p", i), "running", running)
		}
		b.StartTimer()
		for i := range 100 {
			if err := client.Delete[*corev1.Pod](b.Context(), m.api, "default", fmt.Sprint("p", i), metav1.DeleteOptions{}); err != nil {
				b.Fatal(err)
			}
		}
		for i := range 100 {
			m.await(fmt.Sprint("p", i), "gone", gone)
		}
	}
}
