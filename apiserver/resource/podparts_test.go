package resource

import (
	"reflect"
	"testing"
	"time"
	"unsafe"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Pods of different owners share what their nodes and their times have in common,
// and nothing else; no pod changes by it.
func TestPodsShareParts(t *testing.T) {
	at := metav1.NewTime(time.Unix(1700000000, 0))
	pod := func(node, ip string, ready corev1.ConditionStatus) *corev1.Pod {
		return &corev1.Pod{
			Spec: corev1.PodSpec{NodeName: string([]byte(node))},
			Status: corev1.PodStatus{
				HostIP: string([]byte(ip)), HostIPs: []corev1.HostIP{{IP: ip}},
				Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: "True", LastTransitionTime: at}, {Type: corev1.PodReady, Status: ready, LastTransitionTime: at}},
			},
		}
	}
	var s podParts
	pods := []*corev1.Pod{pod("a", "10.0.0.1", "True"), pod("a", "10.0.0.1", "True"), pod("a", "10.0.0.2", "False"), pod("b", "10.0.0.1", "True"), pod("", "", "True"), pod("a", "", "True")}
	pods[5].Status.HostIPs = nil
	pods = append(pods, pod("a", "10.0.0.2", "False"))
	for i, p := range pods {
		before := p.DeepCopy()
		if s.share(p); !reflect.DeepEqual(p, before) {
			t.Errorf("pod %d became %v", i, p)
		}
	}
	first := func(i int) [3]unsafe.Pointer {
		p := pods[i]
		return [3]unsafe.Pointer{
			unsafe.Pointer(unsafe.StringData(p.Spec.NodeName)), unsafe.Pointer(unsafe.SliceData(p.Status.HostIPs)), unsafe.Pointer(unsafe.SliceData(p.Status.Conditions)),
		}
	}
	if first(0) != first(1) || first(2) != first(6) {
		t.Error("pods that are alike share nothing")
	}
	if a, b := first(0), first(3); a[2] != b[2] || a[1] == b[1] || a[0] == b[0] {
		t.Error("pods of two nodes share something else than their conditions")
	}
	if a, b := first(0), first(2); a[0] != b[0] || a[1] == b[1] || a[2] == b[2] {
		t.Error("pods of one node share something else than its name")
	}
}
