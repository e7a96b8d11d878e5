package compose

import (
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodResources(t *testing.T) {
	list := func(pairs ...string) corev1.ResourceList {
		out := corev1.ResourceList{}
		for i := 0; i < len(pairs); i += 2 {
			out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
		}
		return out
	}
	pod := func(name, node string, phase corev1.PodPhase) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
			Spec: corev1.PodSpec{NodeName: node, SchedulerName: "default-scheduler", Priority: new(int32(7)), Containers: []corev1.Container{
				{Resources: corev1.ResourceRequirements{Requests: list("cpu", "250m", "example.com/gpu", "2", "memory", "0"), Limits: list("memory", "1Ki", "hugepages-2Mi", "2Mi")}},
				{Resources: corev1.ResourceRequirements{Requests: list("cpu", "1")}},
			}},
			Status: corev1.PodStatus{Phase: phase},
		}
	}
	p := podResources{func() iter.Seq[*corev1.Pod] {
		return slices.Values([]*corev1.Pod{pod("a", "n1", corev1.PodRunning), pod("done", "n1", corev1.PodSucceeded), pod("b", "", corev1.PodPending)})
	}}
	const want = `
# HELP kube_pod_resource_limit Resources limit for workloads on the cluster, broken down by pod. This shows the resource usage the scheduler and kubelet expect per pod for resources along with the unit for the resource if any.
# TYPE kube_pod_resource_limit gauge
kube_pod_resource_limit{namespace="ns",node="",pod="b",priority="7",resource="hugepages-2Mi",scheduler="default-scheduler",unit="bytes"} 2.097152e+06
kube_pod_resource_limit{namespace="ns",node="",pod="b",priority="7",resource="memory",scheduler="default-scheduler",unit="bytes"} 1024
kube_pod_resource_limit{namespace="ns",node="n1",pod="a",priority="7",resource="hugepages-2Mi",scheduler="default-scheduler",unit="bytes"} 2.097152e+06
kube_pod_resource_limit{namespace="ns",node="n1",pod="a",priority="7",resource="memory",scheduler="default-scheduler",unit="bytes"} 1024
# HELP kube_pod_resource_request Resources requested by workloads on the cluster, broken down by pod. This shows the resource usage the scheduler and kubelet expect per pod for resources along with the unit for the resource if any.
# TYPE kube_pod_resource_request gauge
kube_pod_resource_request{namespace="ns",node="",pod="b",priority="7",resource="cpu",scheduler="default-scheduler",unit="cores"} 1.25
kube_pod_resource_request{namespace="ns",node="",pod="b",priority="7",resource="example.com/gpu",scheduler="default-scheduler",unit=""} 2
kube_pod_resource_request{namespace="ns",node="n1",pod="a",priority="7",resource="cpu",scheduler="default-scheduler",unit="cores"} 1.25
kube_pod_resource_request{namespace="ns",node="n1",pod="a",priority="7",resource="example.com/gpu",scheduler="default-scheduler",unit=""} 2
`
	if err := testutil.CollectAndCompare(p, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
