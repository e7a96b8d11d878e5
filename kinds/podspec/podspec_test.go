package podspec

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestPullPolicy(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("0", 64)
	for image, want := range map[string]corev1.PullPolicy{
		"nginx": corev1.PullAlways, "nginx:latest": corev1.PullAlways, "nginx:1": corev1.PullIfNotPresent,
		"r.io:5000/nginx": corev1.PullAlways, "r.io:5000/nginx:1": corev1.PullIfNotPresent, "r.io:5000/a/b:latest": corev1.PullAlways,
		"nginx" + digest: corev1.PullIfNotPresent, "nginx:latest" + digest: corev1.PullAlways, "r.io:5000/nginx" + digest: corev1.PullIfNotPresent,
		"": corev1.PullIfNotPresent,
	} {
		if got := pullPolicy(image); got != want {
			t.Errorf("pullPolicy(%q) = %s, want %s", image, got, want)
		}
	}
}

func list(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func TestQOS(t *testing.T) {
	same := corev1.ResourceRequirements{Requests: list("cpu", "1", "memory", "1Gi"), Limits: list("cpu", "1", "memory", "1Gi")}
	for _, tt := range []struct {
		name string
		spec corev1.PodSpec
		want corev1.PodQOSClass
	}{
		{"nothing", corev1.PodSpec{Containers: []corev1.Container{{}}}, corev1.PodQOSBestEffort},
		{"other resources only", corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Limits: list("example.com/gpu", "1")}}}}, corev1.PodQOSBestEffort},
		{"zero", corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: list("cpu", "0")}}}}, corev1.PodQOSBestEffort},
		{"equal", corev1.PodSpec{Containers: []corev1.Container{{Resources: same}}}, corev1.PodQOSGuaranteed},
		{"one container without", corev1.PodSpec{Containers: []corev1.Container{{Resources: same}, {}}}, corev1.PodQOSBurstable},
		{"init container without", corev1.PodSpec{Containers: []corev1.Container{{Resources: same}}, InitContainers: []corev1.Container{{}}}, corev1.PodQOSBurstable},
		{"limit above", corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: list("cpu", "1", "memory", "1Gi"), Limits: list("cpu", "2", "memory", "1Gi")}}}}, corev1.PodQOSBurstable},
		{"cpu only", corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: list("cpu", "1"), Limits: list("cpu", "1")}}}}, corev1.PodQOSBurstable},
		{"of the pod", corev1.PodSpec{Resources: &same, Containers: []corev1.Container{{}}}, corev1.PodQOSGuaranteed},
	} {
		if got := QOS(&tt.spec); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestContainerRequests(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	request := func(cpu string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: list("cpu", cpu)}
	}
	for _, tt := range []struct {
		name string
		spec corev1.PodSpec
		want string
	}{
		{"sum", corev1.PodSpec{Containers: []corev1.Container{{Resources: request("1")}, {Resources: request("2")}}}, "3"},
		{"a large init container", corev1.PodSpec{Containers: []corev1.Container{{Resources: request("1")}}, InitContainers: []corev1.Container{{Resources: request("5")}}}, "5"},
		{"a sidecar beside", corev1.PodSpec{Containers: []corev1.Container{{Resources: request("1")}}, InitContainers: []corev1.Container{{Resources: request("2"), RestartPolicy: &always}}}, "3"},
		{"an init container after a sidecar", corev1.PodSpec{
			Containers:     []corev1.Container{{Resources: request("1")}},
			InitContainers: []corev1.Container{{Resources: request("2"), RestartPolicy: &always}, {Resources: request("4")}},
		}, "6"},
		{"an init container before a sidecar", corev1.PodSpec{
			Containers:     []corev1.Container{{Resources: request("1")}},
			InitContainers: []corev1.Container{{Resources: request("4")}, {Resources: request("2"), RestartPolicy: &always}},
		}, "4"},
	} {
		got := ContainerRequests(&tt.spec)["cpu"]
		if got.String() != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got.String(), tt.want)
		}
	}
}

func TestDefaultPodResources(t *testing.T) {
	p := &corev1.Pod{Spec: corev1.PodSpec{
		Resources:  &corev1.ResourceRequirements{Limits: list("cpu", "4", "memory", "4Gi")},
		Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: list("cpu", "1")}}},
	}}
	DefaultPod(p)
	cpu, memory := p.Spec.Resources.Requests["cpu"], p.Spec.Resources.Requests["memory"]
	if cpu.String() != "1" || memory.String() != "4Gi" {
		t.Errorf("requests of the pod: cpu %s, memory %s; want 1 as its containers ask, 4Gi as the limit", cpu.String(), memory.String())
	}
}
