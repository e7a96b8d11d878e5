package scheduler

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
)

// waitsFor waits until a pod's condition says why it has no node.
func says(name, message string) func([]*corev1.Pod) bool {
	return func(all []*corev1.Pod) bool {
		return count(all, func(p *corev1.Pod) bool {
			c := conditionOf(p, corev1.PodScheduled)
			return p.Name == name && p.Spec.NodeName == "" && c != nil && c.Reason == "Unschedulable" && c.Message == message
		}) == 1
	}
}

// conformance: [sig-scheduling] SchedulerPredicates [Serial] validates resource limits of pods that are allowed to run [Conformance]
func TestConformanceResourceLimits(t *testing.T) {
	c, v, _ := startWith(t, nil, space(), node("n1"), node("n2"))
	for i := range 2 { // most of each node
		create(t, c, testPod(fmt.Sprint("filler", i), requests("2800m", "1Gi")))
	}
	until(t, v, "fillers", func(all []*corev1.Pod) bool {
		return count(all, func(p *corev1.Pod) bool { return p.Spec.NodeName != "" }) == 2
	})
	create(t, c, testPod("additional", requests("2800m", "1Gi")))
	until(t, v, "the additional pod has no room", says("additional", "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."))
}

// conformance: [sig-scheduling] SchedulerPredicates [Serial] validates that NodeSelector is respected if not matching [Conformance]
// conformance: [sig-scheduling] SchedulerPredicates [Serial] validates that NodeSelector is respected if matching [Conformance]
func TestConformanceNodeSelector(t *testing.T) {
	label := map[string]string{"example.com/e2e": "42"}
	c, v, events := startWith(t, nil, space(), node("n1"), node("n2"))
	create(t, c, testPod("picky", func(p *corev1.Pod) { p.Spec.NodeSelector = label }))
	const why = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
	until(t, v, "no node has the label", says("picky", why))
	if !events.has("picky Warning FailedScheduling: " + why) {
		t.Errorf("events %q", events.list)
	}
	if _, err := client.PatchOf[*corev1.Node](t.Context(), c, "", "n2", client.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"labels":{"example.com/e2e":"42"}}}`)}); err != nil {
		t.Fatal(err)
	}
	until(t, v, "picky on the node with the label", func(all []*corev1.Pod) bool { return count(all, onNode("picky", "n2")) == 1 })
}

// conformance: [sig-scheduling] SchedulerPredicates [Serial] validates that there exists conflict between pods with same hostPort and protocol but one using 0.0.0.0 hostIP [Conformance]
func TestConformanceHostPortConflict(t *testing.T) {
	port := func(ip string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 54322, HostIP: ip, Protocol: corev1.ProtocolTCP}}
		}
	}
	c, v, _ := startWith(t, nil, space(), node("n1"))
	create(t, c, testPod("all", port("")))
	until(t, v, "the first has its port", func(all []*corev1.Pod) bool { return count(all, onNode("all", "n1")) == 1 })
	create(t, c, testPod("one", port("127.0.0.1")))
	until(t, v, "the second does not", says("one", "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."))
}

// conformance: [sig-scheduling] SchedulerPreemption [Serial] PriorityClass endpoints verify PriorityClass endpoints can be operated with different HTTP methods [Conformance]
func TestConformancePriorityClassEndpoints(t *testing.T) {
	class := func(name string, value int32) *schedulingv1.PriorityClass {
		return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value}
	}
	c, _ := start(t, space())
	for i, name := range []string{"p1", "p2"} {
		create(t, c, class(name, int32(i+1)))
	}
	list, _, err := client.ListOf[*schedulingv1.PriorityClass](t.Context(), c, "", client.ListOptions{})
	if err != nil || len(list) != 2 {
		t.Fatalf("%d listed, %v", len(list), err)
	}
	for _, pc := range list {
		if got, err := client.Get[*schedulingv1.PriorityClass](t.Context(), c, "", pc.Name); err != nil || got.Value != pc.Value {
			t.Errorf("%s: %+v, %v", pc.Name, got, err)
		}
		patch := func(data string) error {
			_, err := client.PatchOf[*schedulingv1.PriorityClass](t.Context(), c, "", pc.Name, client.Patch{Type: types.MergePatchType, Data: []byte(data)})
			return err
		}
		if err := patch(`{"description":"patched"}`); err != nil {
			t.Errorf("what may change is patched: %v", err)
		}
		if err := patch(fmt.Sprintf(`{"value":%d}`, pc.Value*10)); !apierrors.IsInvalid(err) {
			t.Errorf("the value is patched: %v", err)
		}
		now, err := client.Get[*schedulingv1.PriorityClass](t.Context(), c, "", pc.Name)
		if err != nil {
			t.Fatal(err)
		}
		if now.Value != pc.Value || now.Description != "patched" {
			t.Errorf("after the patches: %+v", now)
		}
		now = now.DeepCopy()
		now.Description = "updated"
		if now, err = client.Update(t.Context(), c, now); err != nil {
			t.Errorf("what may change is updated: %v", err)
		}
		now = now.DeepCopy()
		now.Value *= 10
		if _, err = client.Update(t.Context(), c, now); !apierrors.IsInvalid(err) {
			t.Errorf("the value is updated: %v", err)
		}
	}
}

// What this version cannot do leaves a pod waiting, and says so.
func TestPodsThatNeedWhatIsNotServedWait(t *testing.T) {
	c, v, _ := startWith(t, nil, space(), node("n1"))
	create(t, c, testPod("gang", func(p *corev1.Pod) { p.Spec.SchedulingGroup = &corev1.PodSchedulingGroup{PodGroupName: new("g")} }))
	const after = " preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
	until(t, v, "gang", says("gang", "0/1 nodes are available: scheduling groups are not served by this version."+after))
}
