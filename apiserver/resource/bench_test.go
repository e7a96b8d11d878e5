package resource_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/client/direct"
	"sagong/kinds"
	"sagong/object"
	"sagong/store"
)

// BenchmarkPodLife is what a pod costs the API between controllers and agent in
// one process: create, bind, two status writes, graceful and final delete.
func BenchmarkPodLife(b *testing.B) {
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	defer s.Close()
	e := resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...), Fields: object.NewFieldManagers()})
	c := direct.New(e, nil, "kube-controller-manager", nil)
	agent := direct.New(e, nil, "kubelet", nil)
	pods := object.Of[*corev1.Pod](c.Scheme())
	if _, err := c.List(b.Context(), pods, "", client.ListOptions{}); err != nil {
		b.Fatal(err)
	}
	ctx := b.Context()
	b.ReportAllocs()
	n := 0
	const batch = 50
	template := newPod("")
	for b.Loop() {
		writes := make([]client.Write, 0, batch)
		for range batch {
			n++
			p := template.DeepCopy()
			p.Name = fmt.Sprintf("p%d", n)
			writes = append(writes, client.Write{Op: client.OpCreate, Definition: pods, Object: p})
		}
		made := c.Batch(ctx, writes)
		writes = writes[:0]
		for _, r := range made {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
			writes = append(writes, client.Write{Op: client.OpBind, Definition: pods, Object: &corev1.Binding{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: r.Object.GetName()}, Target: corev1.ObjectReference{Name: "n"},
			}})
		}
		c.Batch(ctx, writes)
		for step := range 2 {
			writes = writes[:0]
			for _, r := range made {
				p, err := client.Get[*corev1.Pod](ctx, c, "default", r.Object.GetName())
				if err != nil {
					b.Fatal(err)
				}
				p = p.DeepCopy()
				p.Status.Phase = corev1.PodRunning
				p.Status.PodIP = fmt.Sprintf("10.1.%d.%d", n%250, step)
				p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
				p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodConditionType(fmt.Sprint("C", step)), Status: "True"})
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", Image: "example.org/i:v1", ImageID: "id", Ready: step == 1}}
				writes = append(writes, client.Write{Op: client.OpUpdateStatus, Definition: pods, Object: p})
			}
			for _, r := range agent.Batch(ctx, writes) {
				if r.Err != nil {
					b.Fatal(r.Err)
				}
			}
		}
		for _, grace := range []*int64{nil, new(int64(0))} {
			writes = writes[:0]
			for _, r := range made {
				writes = append(writes, client.Write{Op: client.OpDelete, Definition: pods, Object: r.Object, Delete: metav1.DeleteOptions{GracePeriodSeconds: grace}})
			}
			for _, r := range agent.Batch(ctx, writes) {
				if r.Err != nil {
					b.Fatal(r.Err)
				}
			}
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(n), "us/pod")
}
