package resource_test

import (
	"fmt"
	"runtime"
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

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestMemoryOfAPod bounds what a pod of one template costs that a controller
// made, the scheduler bound and the agent reported on: stored bytes and the
// typed object that all components share.
func TestMemoryOfAPod(t *testing.T) {
	if testing.Short() {
		t.Skip("makes thousands of pods")
	}
	const pods = 4000
	s := store.OpenMemory(store.Options{Tag: resource.Tag, HistoryBytes: 1})
	defer s.Close()
	e := resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...), Fields: object.NewFieldManagers()})
	c := direct.New(e, nil, "kube-controller-manager", nil)
	d := object.Of[*corev1.Pod](c.Scheme())
	e.Kind(d).Share()
	before := uint64(0)
	template := newPod("")
	for n := range pods + 200 {
		if n == 200 {
			before = heap() // schemas are compiled, buffers made
		}
		p := template.DeepCopy()
		p.Name = fmt.Sprintf("pod-%d", n)
		made, err := client.Create(t.Context(), c, p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.CreateSubresource(t.Context(), d, "default", made.Name, "binding", &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: made.Name}, Target: corev1.ObjectReference{Name: "node"}}); err != nil {
			t.Fatal(err)
		}
		now, err := client.Get[*corev1.Pod](t.Context(), c, "default", made.Name)
		if err != nil {
			t.Fatal(err)
		}
		now = now.DeepCopy()
		now.Status.Phase = corev1.PodRunning
		now.Status.PodIP = fmt.Sprintf("10.1.%d.%d", n/250, n%250)
		now.Status.PodIPs = []corev1.PodIP{{IP: now.Status.PodIP}}
		for _, kind := range []corev1.PodConditionType{"Initialized", "Ready", "ContainersReady", "PodReadyToStartContainers"} {
			now.Status.Conditions = append(now.Status.Conditions, corev1.PodCondition{Type: kind, Status: "True"})
		}
		now.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", Image: "example.org/i:v1", ContainerID: "native://" + made.Name, Ready: true}}
		if _, err := client.UpdateStatus(t.Context(), c, now); err != nil {
			t.Fatal(err)
		}
	}
	each := (heap() - before) / pods
	t.Logf("%d bytes a pod", each)
	if each > 9_000 {
		t.Errorf("a pod costs %d bytes", each)
	}
	runtime.KeepAlive(e)
}
